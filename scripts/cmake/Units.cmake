# The units for distribution packages, which install them as files (component "units"). The zip and the VM application
# carry the same texts inside the binary instead, embedded from agent/app/units by ek_embed().
set(EK_UNIT_DIR "lib/systemd/system" CACHE PATH "Where packages put systemd units")

set(EK_BINARY "${CMAKE_INSTALL_FULL_BINDIR}/evenkeel")
foreach(unit evenkeel.service evenkeel.socket)
  configure_file(agent/app/units/${unit}.in units/${unit} @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/units/${unit}" DESTINATION "${EK_UNIT_DIR}" COMPONENT units)
endforeach()
install(FILES agent/app/units/evenkeel-jobs.slice agent/app/units/evenkeel-drained.target
  DESTINATION "${EK_UNIT_DIR}" COMPONENT units)
unset(EK_BINARY)
