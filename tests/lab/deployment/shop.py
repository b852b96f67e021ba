"""The application of the lab: small answers, answers that take their time, uploads. Each says which VM gave it."""

import socket
import time

from flask import Flask, Response, request

app = Flask(__name__)
PIECES = 10


@app.after_request
def name_the_member(response):
    response.headers["X-Member"] = socket.gethostname()
    return response


@app.get("/")
def page():
    return "the shop is open\n" * 20


@app.get("/slow")
def slow():
    """Ten pieces spread over so many seconds."""
    seconds = float(request.args["seconds"])

    def pieces():
        for number in range(PIECES):
            time.sleep(seconds / PIECES)
            yield f"piece {number} of a long answer\n"

    return Response(pieces(), mimetype="text/plain")


@app.post("/order")
def order():
    return f"{len(request.get_data())} bytes ordered\n"


@app.get("/healthz")
def healthz():
    return "well\n"
