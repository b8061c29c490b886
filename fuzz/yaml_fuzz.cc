// YAML: bounded and without exceptions, whatever comes; a tree converts to JSON.
#include <cstdint>
#include <string_view>

#include "codec/yaml.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace warmpath;
  if (size > (1u << 14)) return 0;
  const auto documents = codec::ParseYamlStream({reinterpret_cast<const char*>(data), size});
  if (!documents) return 0;
  for (const auto& document : *documents) (void)codec::DumpJson(codec::YamlToJson(document));
  return 0;
}
