# What is delivered beside the binary: the handler's manifests for the zip (manifest/ in the build tree) and the units for
# distribution packages (component "units"). The zip and the VM application carry the units inside the binary instead.

# A publishing manifest wants major.minor.build.revision.
string(REGEX MATCHALL "[0-9]+" EK_IMAGE_VERSION "${EK_VERSION}")
list(APPEND EK_IMAGE_VERSION 0 0 0 0)
list(SUBLIST EK_IMAGE_VERSION 0 4 EK_IMAGE_VERSION)
list(JOIN EK_IMAGE_VERSION "." EK_IMAGE_VERSION)

# The handler manifest names no resource limits: the agent would set them anew at every goal state, a quota would throttle
# our commands and the daemon just when a notice is short, and the unit carries its own limits.
configure_file(manifest/HandlerManifest.json.in manifest/HandlerManifest.json @ONLY)
configure_file(manifest/manifest.xml.in manifest/manifest.xml @ONLY)

set(EK_UNIT_DIR "lib/systemd/system" CACHE PATH "Where packages put systemd units")
set(EK_BINARY "${CMAKE_INSTALL_FULL_BINDIR}/evenkeel")
foreach(unit evenkeel.service evenkeel.socket)
  configure_file(agent/app/units/${unit}.in units/${unit} @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/units/${unit}" DESTINATION "${EK_UNIT_DIR}" COMPONENT units)
endforeach()
install(FILES agent/app/units/evenkeel-jobs.slice agent/app/units/evenkeel-drained.target
  DESTINATION "${EK_UNIT_DIR}" COMPONENT units)
