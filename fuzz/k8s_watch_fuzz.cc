// What a server streams as a watch, and as a list, cut into pieces: whatever it is, the reflector
// goes on asking, and what the sink holds came in whole lists and events.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/log.h"
#include "k8s/reflector.h"
#include "k8s/testing.h"

namespace {

using namespace warmpath;

struct CountingSink final : k8s::ObjectSink {
  void ListBegin() override { listing = true; }
  void Upsert(const codec::Json& object) override { WP_CHECK(object.is_object()); }
  void Delete(const codec::Json& object) override {
    WP_CHECK(!listing);
    WP_CHECK(object.is_object());
  }
  void ListEnd() override {
    WP_CHECK(listing);
    listing = false;
    ++lists;
  }
  void StatusChanged(const k8s::ReflectorStatus&) override {}
  bool listing = false;
  uint64_t lists = 0;
};

constexpr char kPath[] = "/pods";

}  // namespace

// The first byte: the size of the pieces, and whether the rest is a list.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static const bool quiet = [] {
    SetLogVerbosity(-1);
    return true;
  }();
  (void)quiet;
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  ManualClock clock;
  k8s::testing::ManualTimers timers(clock);
  k8s::testing::FakeApi api(timers);
  Registry metrics;
  CountingSink sink;
  api.chunk_bytes = data[0] & 0x7f;
  api.Put(kPath, R"({"metadata":{"name":"a"}})");
  const auto reflector =
      k8s::Reflector::Create(api, timers, clock, metrics, {"pods", kPath, "", ""}, sink, 1);
  if ((data[0] & 0x80) != 0) {
    api.handler = [&](const k8s::ApiRequest& request) -> std::optional<Result<k8s::ApiAnswer>> {
      if (request.path.find("continue=") != std::string::npos) return std::nullopt;
      return Result<k8s::ApiAnswer>(k8s::ApiAnswer{200, {}, bytes});
    };
  }
  reflector->Start();
  timers.Settle();
  api.Push(kPath, bytes);
  timers.Settle();
  // With a server in its senses it is in step again, after five minutes if it was told to wait.
  api.handler = nullptr;
  for (int i = 0; i < 400 && api.watches(kPath) == 0; ++i) timers.Advance(std::chrono::seconds(1));
  WP_CHECK(api.watches(kPath) == 1);
  WP_CHECK(reflector->status().lists == sink.lists);
  WP_CHECK(reflector->status().listed);
  WP_CHECK(!sink.listing);
  WP_CHECK(api.requests.size() < 100);
  return 0;
}
