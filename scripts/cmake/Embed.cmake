# ek_embed(target SYMBOL file): compiles a text file into the target as `extern const char SYMBOL[];`, NUL-terminated.
# @EK_PUBLISHER@, @EK_TYPE@, @EK_HANDLER@ and @EK_VERSION@ are replaced now; @EK_BINARY@ stays, since only the running
# program knows the path it installs itself to. The text is read again whenever the file changes.
function(ek_embed target symbol file)
  get_filename_component(path "${file}" ABSOLUTE)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${path}")
  file(READ "${path}" text)
  foreach(name PUBLISHER TYPE HANDLER VERSION)
    string(REPLACE "@EK_${name}@" "${EK_${name}}" text "${text}")
  endforeach()
  # A C string literal per line: backslash first, and "?" because of trigraphs.
  string(REPLACE "\\" "\\\\" text "${text}")
  string(REPLACE "\"" "\\\"" text "${text}")
  string(REPLACE "?" "\\?" text "${text}")
  string(REPLACE "\t" "\\t" text "${text}")
  string(REPLACE "\n" "\\n\"\n\t\"" text "${text}")
  file(RELATIVE_PATH from "${PROJECT_SOURCE_DIR}" "${path}")
  set(source "${PROJECT_BINARY_DIR}/generated/embed/${symbol}.c")
  file(CONFIGURE OUTPUT "${source}" @ONLY CONTENT
"/* Generated from @from@. */
extern const char @symbol@[];

const char @symbol@[] =
\t\"@text@\";
")
  target_sources(${target} PRIVATE "${source}")
endfunction()
