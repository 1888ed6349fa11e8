# Everything comes from the system's packages; docs/dependencies.md says what for.
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(JPEG REQUIRED)
find_package(PNG REQUIRED)
pkg_check_modules(PROTOBUF REQUIRED IMPORTED_TARGET protobuf)

# Debian's pthreadpool ships neither a pkg-config nor a CMake file.
find_path(PTHREADPOOL_INCLUDE_DIR pthreadpool.h REQUIRED)
find_library(PTHREADPOOL_LIBRARY pthreadpool REQUIRED)
add_library(sepconv_pthreadpool INTERFACE)
target_include_directories(sepconv_pthreadpool INTERFACE ${PTHREADPOOL_INCLUDE_DIR})
target_link_libraries(sepconv_pthreadpool INTERFACE ${PTHREADPOOL_LIBRARY})

# ONNX's own CMake file wants protoc and its other libraries, of which reading files needs none.
# By the header that protoc made for the library: Python's onnx package has the others too.
find_path(ONNX_INCLUDE_DIR onnx/onnx-ml.pb.h REQUIRED)
find_library(ONNX_PROTO_LIBRARY onnx_proto REQUIRED)
add_library(sepconv_onnx INTERFACE)
target_include_directories(sepconv_onnx INTERFACE ${ONNX_INCLUDE_DIR})
target_compile_definitions(sepconv_onnx INTERFACE ONNX_ML=1 ONNX_NAMESPACE=onnx)
target_link_libraries(sepconv_onnx INTERFACE ${ONNX_PROTO_LIBRARY} PkgConfig::PROTOBUF)
