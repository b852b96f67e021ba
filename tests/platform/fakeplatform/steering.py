"""Which methods tests may call on a Platform and, with the same names, through a Client over the control port."""

import base64
import inspect


def steering(method):
    """Marks a component's method as one of the platform's handles."""
    method.steering = True
    return method


def steering_functions(component_class):
    return {name: function for name, function in inspect.getmembers(component_class, inspect.isfunction)
            if getattr(function, "steering", False)}


def pack(value):
    """Python value to what JSON can carry; bytes travel as {"base64": …}."""
    if isinstance(value, (bytes, bytearray)):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key: pack(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [pack(item) for item in value]
    return value


def unpack(value):
    """The reverse of pack(); {"text": …} is bytes too, for people who steer by hand."""
    if isinstance(value, dict):
        if set(value) == {"base64"}:
            return base64.b64decode(value["base64"], validate=True)
        if set(value) == {"text"}:
            return value["text"].encode()
        return {key: unpack(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unpack(item) for item in value]
    return value
