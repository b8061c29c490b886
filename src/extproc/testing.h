// For tests of extproc: requests as Envoy sends them, and a stream in memory.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "extproc/messages.h"
#include "extproc/sink.h"

namespace warmpath::extproc::testing {

using HeaderList = std::vector<std::pair<std::string, std::string>>;

inline void Fill(pb::HeaderMap& map, const HeaderList& headers) {
  for (const auto& [name, value] : headers) {
    auto* const header = map.add_headers();
    header->set_key(name);
    header->set_raw_value(value);
  }
}

// The struct under `key`, which is there.
inline const pb::Struct& StructIn(const pb::Struct& parent, std::string_view key) {
  const auto& fields = parent.fields();
  return std::find_if(fields.begin(), fields.end(),
                      [key](const auto& entry) { return entry.key() == key; })
      ->value()
      .struct_value();
}

inline pb::ProcessingRequest RequestHeaders(const HeaderList& headers, bool end_of_stream = false) {
  pb::ProcessingRequest message;
  Fill(*message.mutable_request_headers()->mutable_headers(), headers);
  message.mutable_request_headers()->set_end_of_stream(end_of_stream);
  return message;
}
inline pb::ProcessingRequest RequestBody(std::string_view bytes, bool end_of_stream) {
  pb::ProcessingRequest message;
  message.mutable_request_body()->mutable_body()->assign(bytes);
  message.mutable_request_body()->set_end_of_stream(end_of_stream);
  return message;
}
inline pb::ProcessingRequest RequestTrailers() {
  pb::ProcessingRequest message;
  message.mutable_request_trailers();
  return message;
}
inline pb::ProcessingRequest ResponseHeaders(const HeaderList& headers,
                                             bool end_of_stream = false) {
  pb::ProcessingRequest message;
  Fill(*message.mutable_response_headers()->mutable_headers(), headers);
  message.mutable_response_headers()->set_end_of_stream(end_of_stream);
  return message;
}
inline pb::ProcessingRequest ResponseBody(std::string_view bytes, bool end_of_stream) {
  pb::ProcessingRequest message;
  message.mutable_response_body()->mutable_body()->assign(bytes);
  message.mutable_response_body()->set_end_of_stream(end_of_stream);
  return message;
}
inline pb::ProcessingRequest ResponseTrailers() {
  pb::ProcessingRequest message;
  message.mutable_response_trailers();
  return message;
}
inline pb::ProcessingRequest WithModes(pb::ProcessingRequest message, pb::BodySendMode request,
                                       pb::BodySendMode response) {
  message.mutable_protocol_config()->set_request_body_mode(request);
  message.mutable_protocol_config()->set_response_body_mode(response);
  return message;
}
inline pb::ProcessingRequest WithMetadata(pb::ProcessingRequest message, std::string_view space,
                                          std::string_view key, pb::Value value) {
  auto* const entry = message.mutable_metadata_context()->add_filter_metadata();
  entry->mutable_key()->assign(space);
  auto* const field = entry->mutable_value()->add_fields();
  field->mutable_key()->assign(key);
  *field->mutable_value() = std::move(value);
  return message;
}
inline pb::Value Text(std::string_view text) {
  pb::Value value;
  value.mutable_string_value()->assign(text);
  return value;
}
inline pb::Value List(const std::vector<std::string>& entries) {
  pb::Value value;
  value.mutable_list_value();
  for (const auto& entry : entries) {
    *value.mutable_list_value()->add_values() = Text(entry);
  }
  return value;
}
inline pb::ProcessingRequest WithSubset(pb::ProcessingRequest message, pb::Value value) {
  return WithMetadata(std::move(message), "envoy.lb.subset_hint",
                      "x-gateway-destination-endpoint-subset", std::move(value));
}

// Keeps what was sent, as long as the test does not `hold` it back: then it counts as queued.
class MemorySink final : public Sink {
 public:
  void Send(std::string_view message) override {
    pb::ProcessingResponse response;
    parsed = parsed && response.ParseFromArray(message.data(), static_cast<int>(message.size()));
    if (hold) {
      queued += message.size();
      peak = std::max(peak, queued);
    }
    sent.push_back(std::move(response));
  }
  size_t queued_bytes() const override { return queued; }
  void SetReading(bool value) override { reading = value; }
  void MarkComplete() override { complete = true; }
  void Finish(net::GrpcStatus status, std::string_view) override { finished = status; }
  bool Offload(std::function<void()> work, std::function<void()> done) override {
    if (pool_full) return false;
    offloaded.emplace_back(std::move(work), std::move(done));
    return true;
  }
  void StartTimer(Duration delay) override { timer = delay; }
  void StopTimer() override { timer.reset(); }

  void RunOffloaded() {
    while (!offloaded.empty()) {
      auto [work, done] = std::move(offloaded.front());
      offloaded.pop_front();
      work();
      done();
    }
  }
  pb::ProcessingResponse Take() {
    if (sent.empty()) return {};
    pb::ProcessingResponse first = std::move(sent.front());
    sent.pop_front();
    return first;
  }

  std::deque<pb::ProcessingResponse> sent;
  bool parsed = true;
  bool hold = false;
  size_t queued = 0;
  size_t peak = 0;
  bool reading = true;
  bool complete = false;
  bool pool_full = false;
  std::optional<net::GrpcStatus> finished;
  std::deque<std::pair<std::function<void()>, std::function<void()>>> offloaded;
  std::optional<Duration> timer;
};

}  // namespace warmpath::extproc::testing
