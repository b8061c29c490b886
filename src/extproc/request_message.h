// One ProcessingRequest, read in place: what it says are views of the bytes it was read from, no
// message object is made. Equal to what protobuf would read (fields given twice included), but that
// groups are refused, and that metadata are taken apart only where they name an endpoint.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "extproc/messages.h"

namespace warmpath::extproc {

class RequestMessage {
 public:
  enum class Kind {
    kNone,
    kRequestHeaders,
    kResponseHeaders,
    kRequestBody,
    kResponseBody,
    kRequestTrailers,
    kResponseTrailers,
  };
  struct Header {
    std::string_view name;
    std::string_view value;
  };
  // Numbers as they came: they need not name a mode.
  struct Modes {
    int request;
    int response;
  };

  RequestMessage();
  ~RequestMessage();
  RequestMessage(const RequestMessage&) = delete;
  RequestMessage& operator=(const RequestMessage&) = delete;

  // Once. False: `bytes`, which outlive this object, are no ProcessingRequest.
  [[nodiscard]] bool Read(std::string_view bytes);

  Kind kind() const { return kind_; }
  const std::vector<Header>& headers() const { return headers_; }  // of headers
  std::string_view body() const { return body_; }                  // of bodies
  bool end_of_stream() const { return end_of_stream_; }            // of headers and bodies
  bool observability_mode() const { return observability_mode_; }
  const std::optional<Modes>& modes() const { return modes_; }
  // The value of `key` in namespace `space` of the metadata; null when there is none. Keys are
  // those that begin with kMetadataKeys.
  const pb::Value* FindMetadata(std::string_view space, std::string_view key) const;
  static constexpr std::string_view kMetadataKeys = "x-gateway-destination-endpoint-s";

 private:
  void Begin(Kind kind);
  bool ReadHeaders(std::string_view bytes);
  bool ReadHeaderMap(std::string_view bytes);
  bool ReadBody(std::string_view bytes);
  bool ReadModes(std::string_view bytes);
  bool ReadMetadata(std::string_view bytes);

  Kind kind_ = Kind::kNone;
  bool end_of_stream_ = false;
  bool observability_mode_ = false;
  std::string_view body_;
  std::vector<Header> headers_;  // its memory is the thread's
  std::optional<Modes> modes_;
  std::optional<Scratch> scratch_;
  pb::Metadata* metadata_ = nullptr;  // in scratch_
};

}  // namespace warmpath::extproc
