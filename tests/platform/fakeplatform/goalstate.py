"""The WireServer's documents as text: goal state, extensions, versions, certificates."""

import json
from xml.sax.saxutils import escape, quoteattr

CONTAINER_ID = "c6d5526c-5ac2-4200-b6e2-56f2b70c5ab2"
ROLE_INSTANCE = f"{CONTAINER_ID}.vm_0"
CONFIG_NAME = "dep.1.dep.1._vm.1.xml"

VERSIONS = """<?xml version="1.0" encoding="utf-8"?>
<Versions><Preferred><Version>2015-04-05</Version></Preferred>
<Supported><Version>2015-04-05</Version><Version>2012-11-30</Version></Supported></Versions>"""


def goal_state(base, incarnation):
    def config(kind):
        return escape(f"{base}/machine/{CONTAINER_ID}/vm_0?comp=config&type={kind}&incarnation={incarnation}")

    certificates = escape(f"{base}/machine/{CONTAINER_ID}/vm_0?comp=certificates&incarnation={incarnation}")
    return f"""<?xml version="1.0" encoding="utf-8"?>
<GoalState><Version>2012-11-30</Version><Incarnation>{incarnation}</Incarnation>
<Machine><ExpectedState>Started</ExpectedState></Machine>
<Container><ContainerId>{CONTAINER_ID}</ContainerId><RoleInstanceList><RoleInstance>
<InstanceId>{ROLE_INSTANCE}</InstanceId><State>Started</State><Configuration>
<HostingEnvironmentConfig>{config("hostingEnvironmentConfig")}</HostingEnvironmentConfig>
<SharedConfig>{config("sharedConfig")}</SharedConfig>
<ExtensionsConfig>{config("extensionsConfig")}</ExtensionsConfig>
<Certificates>{certificates}</Certificates>
<ConfigName>{CONFIG_NAME}</ConfigName>
</Configuration></RoleInstance></RoleInstanceList></Container></GoalState>"""


def hosting_environment(incarnation):
    return f"""<?xml version="1.0" encoding="utf-8"?>
<HostingEnvironmentConfig version="1.0.0.0" goalStateIncarnation="{incarnation}">
<Deployment name="dep" guid="{{0}}" incarnation="{incarnation}"/>
<Incarnation number="{incarnation}" instance="vm_0" guid="{{0}}"/>
<Role guid="{{0}}" name="vm"/></HostingEnvironmentConfig>"""


def shared_config(incarnation):
    return f"""<?xml version="1.0" encoding="utf-8"?>
<SharedConfig version="1.0.0.0" goalStateIncarnation="{incarnation}"><Deployment name="dep" guid="{{0}}" incarnation="0"/>
</SharedConfig>"""


def version_manifest(base, name, versions):
    plugins = "".join(f"<Plugin><Version>{version}</Version><Uris><Uri>{escape(f'{base}/extensions/{name}/{version}.zip')}"
                      "</Uri></Uris></Plugin>" for version in versions)
    return f"""<?xml version="1.0" encoding="utf-8"?>
<PluginVersionManifest><Plugins>{plugins}</Plugins></PluginVersionManifest>"""


def _settings_text(plugin, encrypt, thumbprint):
    protected = plugin.get("protected_settings")
    return escape(json.dumps({"runtimeSettings": [{"handlerSettings": {
        "protectedSettingsCertThumbprint": thumbprint if protected is not None else None,
        "protectedSettings": encrypt(json.dumps(protected)) if protected is not None else None,
        "publicSettings": plugin.get("public_settings")}}]}))


def extensions_config(base, incarnation, ticks, plugins, encrypt, thumbprint):
    """plugins as set_goal_state() takes them; encrypt makes protectedSettings of a text."""
    listed, settings = "", ""
    for plugin in plugins:
        name, version = plugin["name"], plugin["version"]
        location = f"{base}/extensions/{name}/manifest.xml"
        listed += (f"<Plugin name={quoteattr(name)} version={quoteattr(version)} location={quoteattr(location)} "
                   f'failoverlocation="" state={quoteattr(plugin.get("state", "enabled"))} autoUpgrade="true" '
                   'runAsStartupTask="false" isJson="true" useExactVersion="true"/>')
        if plugin.get("seq_no") is None:
            continue  # an extension without any settings
        level = plugin.get("depends_on_level")
        depends = ""
        if level is not None:
            handlers = "".join(f"<DependsOnExtension handler={quoteattr(other)}/>" for other in plugin.get("depends_on", []))
            depends = f'<DependsOn dependencyLevel="{level}">{handlers}</DependsOn>'
        settings += (f"<Plugin name={quoteattr(name)} version={quoteattr(version)}>{depends}"
                     f'<RuntimeSettings seqNo="{plugin["seq_no"]}">{_settings_text(plugin, encrypt, thumbprint)}'
                     "</RuntimeSettings></Plugin>")
    blob = escape(f"{base}/status/{CONTAINER_ID}.vm_0.status?sig=fake")
    return f"""<?xml version="1.0" encoding="utf-8"?>
<Extensions version="1.0.0.0" goalStateIncarnation="{incarnation}">
<GuestAgentExtension><GAFamilies><GAFamily><Name>Prod</Name><Uris/></GAFamily></GAFamilies></GuestAgentExtension>
<Plugins>{listed}</Plugins>
<PluginSettings>{settings}</PluginSettings>
<StatusUploadBlob statusBlobType="BlockBlob">{blob}</StatusUploadBlob>
<InVMGoalStateMetaData inSvdSeqNo="{incarnation}" createdOnTicks="{ticks}" activityId="{CONTAINER_ID}" \
correlationId="{CONTAINER_ID}"/>
</Extensions>"""


def certificate_file(incarnation, cms_base64_lines):
    return f"""<?xml version="1.0" encoding="utf-8"?>
<CertificateFile><Version>2012-11-30</Version><Incarnation>{incarnation}</Incarnation>
<Format>Pkcs7BlobWithPfxContents</Format><Data>{cms_base64_lines}</Data></CertificateFile>"""
