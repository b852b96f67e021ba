# ek::options: what every target of ours is compiled with. Nothing is set directory-wide.
include(CheckCCompilerFlag)

set(EK_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined")
option(EK_HARDEN "Hardening flags (packages turn this off and use their distribution's)" ON)
option(EK_WERROR "Warnings are errors" OFF)
option(EK_ANALYZE "Run gcc -fanalyzer while compiling" OFF)
option(EK_FUZZ "Build libFuzzer targets (clang)" OFF)

add_library(ek_options INTERFACE)
add_library(ek::options ALIAS ek_options)
target_compile_features(ek_options INTERFACE c_std_17)
target_compile_definitions(ek_options INTERFACE _GNU_SOURCE)
target_include_directories(ek_options INTERFACE "${PROJECT_SOURCE_DIR}" "${PROJECT_BINARY_DIR}/generated")

function(ek_try_flags)
  foreach(flag IN LISTS ARGN)
    string(MAKE_C_IDENTIFIER "HAVE${flag}" var)
    check_c_compiler_flag(${flag} ${var})
    if(${var})
      target_compile_options(ek_options INTERFACE ${flag})
    endif()
  endforeach()
endfunction()

ek_try_flags(-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition
             -Wpointer-arith -Wwrite-strings -Wundef -Wvla -Wformat=2 -Wformat-signedness -Wconversion
             -Wimplicit-fallthrough -Wcast-qual -Wlogical-op -Wduplicated-cond -Wduplicated-branches
             -Wno-missing-field-initializers)
target_compile_options(ek_options INTERFACE -fno-common -fno-omit-frame-pointer
  -Werror=implicit-function-declaration -Werror=incompatible-pointer-types -Werror=int-conversion
  -Werror=return-type -Werror=format-security $<$<BOOL:${EK_WERROR}>:-Werror>)
if(EK_ANALYZE)
  # gcc 12 loses sight of what arrays own and calls it a leak; leaks are LeakSanitizer's job.
  target_compile_options(ek_options INTERFACE -fanalyzer -Wno-analyzer-malloc-leak)
endif()

# Once for the whole program: what shared code would carry twice, the linker drops.
target_compile_options(ek_options INTERFACE -ffunction-sections -fdata-sections)
target_link_options(ek_options INTERFACE -Wl,--gc-sections)

# The fuzzer finds its way by the coverage of what it calls, so that has to be counted in the layers, too.
if(EK_FUZZ)
  target_compile_options(ek_options INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(ek_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

if(EK_SANITIZE)
  target_compile_options(ek_options INTERFACE -fsanitize=${EK_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(ek_options INTERFACE -fsanitize=${EK_SANITIZE})
elseif(EK_HARDEN)
  ek_try_flags(-fstack-protector-strong -fstack-clash-protection -fcf-protection=full
               -ftrivial-auto-var-init=zero -fstrict-flex-arrays=3)
  # clang takes it for any machine, and then complains that nothing uses it.
  if(CMAKE_SYSTEM_PROCESSOR STREQUAL "aarch64")
    ek_try_flags(-mbranch-protection=standard)
  endif()
  target_compile_options(ek_options INTERFACE
    $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE> $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=3>)
  target_link_options(ek_options INTERFACE -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--as-needed)
  set(CMAKE_POSITION_INDEPENDENT_CODE ON)
  include(CheckPIESupported)
  check_pie_supported()
endif()
