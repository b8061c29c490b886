// HTTP/1.x messages from bytes, strictly: one reading of a message or an error. Transport-free and
// incremental; single-threaded.
//
// Refused, because two parties could read it differently: obs-fold, bare CR or LF, whitespace
// before a colon, names that are no tokens, control characters, repeated or signed or listed
// Content-Length, any Transfer-Encoding but exactly "chunked", Transfer-Encoding on HTTP/1.0 or
// beside Content-Length, missing or repeated Host, chunk extensions, Connection naming a framing
// field. docs/adr/0007-own-http1-parser.md says why this is our own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "net/http.h"

namespace warmpath::net {

struct Http1Limits {
  size_t max_head_bytes = 64 << 10;
  size_t max_headers = 128;
  size_t max_target_bytes = 16 << 10;
  uint64_t max_body_bytes = UINT64_MAX;
};

class Http1Parser {
 public:
  enum class Event {
    kNeedMore,  // the input is used up
    kHead,      // method(), target(), status(), headers() ... are complete
    kBody,      // body() is the next piece of the content
    kEnd,       // the message is complete; the input that is left belongs to the next one
    kError,     // error_status() and error() say what; the parser stays here
  };

  static Http1Parser ForRequests(Http1Limits limits);
  static Http1Parser ForResponses(Http1Limits limits);

  // Ready for the next message. `answers_head`: the response to come answers a HEAD and has no
  // content.
  void Reset(bool answers_head = false);

  // Takes bytes off the front of `input` up to the next event. body() points into `input`.
  Event Next(std::string_view& input);
  // The peer closed: kEnd for a body that lasts until then, else kError.
  Event Close();

  const std::string& method() const { return method_; }
  std::string& target() { return target_; }
  int status() const { return status_; }
  int minor_version() const { return minor_version_; }
  Headers& headers() { return headers_; }
  std::string_view body() const { return body_; }
  bool keep_alive() const { return keep_alive_; }
  bool expects_continue() const { return expects_continue_; }
  bool has_content() const { return framing_ != Framing::kNone; }
  // Content-Length when given, else 0.
  uint64_t content_length() const { return framing_ == Framing::kLength ? length_ : 0; }
  // Of content with a declared length, as far as it is still to come. Who reads it elsewhere than
  // through Next says so.
  uint64_t content_left() const { return state_ == State::kLength ? remaining_ : 0; }
  void SkipContent(uint64_t bytes);
  bool started() const { return state_ != State::kHead || section_size_ > 0; }
  bool head_complete() const { return state_ != State::kHead; }

  int error_status() const { return error_status_; }
  const char* error() const { return error_; }

 private:
  enum class State {
    kHead,
    kLength,
    kUntilClose,
    kChunkSize,
    kChunkData,
    kChunkEnd,
    kTrailers,
    kEnd,
    kError
  };
  enum class Framing { kNone, kLength, kChunked, kUntilClose };

  Http1Parser(bool requests, Http1Limits limits) : requests_(requests), limits_(limits) {}

  Event Fail(int status, const char* what);
  Event ReadHead(std::string_view& input);
  Event FinishHead();
  // Takes a line with its CRLF off the input; true when it is complete: `line` is then what stood
  // before the CRLF, and valid until the next call. Sets the error when the section it belongs to
  // is longer than `limit`, or it is malformed.
  bool ReadLine(std::string_view& input, size_t limit, std::string_view& line);
  bool ParseRequestLine(std::string_view line);
  bool ParseStatusLine(std::string_view line);
  bool ParseField(std::string_view line);
  bool CheckFields();
  bool CheckRequest();
  bool CheckResponse();
  bool ParseChunkSize(std::string_view line);
  Event TakeBody(std::string_view& input, State after);

  const bool requests_;
  const Http1Limits limits_;
  State state_ = State::kHead;
  Framing framing_ = Framing::kNone;
  bool answers_head_ = false;
  bool keep_alive_ = false;
  bool expects_continue_ = false;
  bool chunked_ = false;
  bool has_length_ = false;
  int status_ = 0;
  int minor_version_ = 1;
  int error_status_ = 0;
  size_t hosts_ = 0;
  size_t informational_ = 0;  // 1xx heads skipped
  size_t section_size_ = 0;   // bytes of the head, chunk line or trailers so far
  size_t field_lines_ = 0;
  uint64_t length_ = 0;     // Content-Length
  uint64_t remaining_ = 0;  // of the content or of the chunk
  uint64_t received_ = 0;   // content bytes announced so far
  const char* error_ = "";
  std::string line_;  // what was read of an unfinished one
  bool line_complete_ = false;
  bool start_line_seen_ = false;
  std::string method_;
  std::string target_;
  Headers headers_;
  std::string_view body_;
};

// RFC 9110 token; also true for what may stand in a field value.
bool IsToken(std::string_view text);
bool IsFieldValue(std::string_view text);

}  // namespace warmpath::net
