#include "net/http1_parser.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/units.h"

namespace warmpath::net {
namespace {

constexpr size_t kMaxChunkLine = 18;  // 16 hex digits and CRLF
constexpr size_t kMaxTrailerBytes = 8 << 10;
constexpr size_t kMaxInformational = 16;
constexpr size_t kKeptLine = 256;

constexpr std::array<bool, 256> MakeTokenTable() {
  std::array<bool, 256> table{};
  for (int c = 'a'; c <= 'z'; ++c) table[static_cast<size_t>(c)] = true;
  for (int c = 'A'; c <= 'Z'; ++c) table[static_cast<size_t>(c)] = true;
  for (int c = '0'; c <= '9'; ++c) table[static_cast<size_t>(c)] = true;
  for (const char c :
       {'!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~'}) {
    table[static_cast<unsigned char>(c)] = true;
  }
  return table;
}
constexpr std::array<bool, 256> kToken = MakeTokenTable();

// Of the names that CheckFields knows: Host, Expect, Connection, Content-Length, Transfer-Encoding.
constexpr std::array<bool, 19> MakeFramingSizes() {
  std::array<bool, 19> sizes{};
  for (const size_t size : {4, 6, 10, 14, 17}) sizes[size] = true;
  return sizes;
}
constexpr std::array<bool, 19> kFramingSizes = MakeFramingSizes();

bool IsVisible(char c) {
  return c > ' ' && c <= '~';
}

// What a Host or the authority of a target may hold.
bool IsAuthority(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return IsVisible(c) && std::strchr("/@,?#\\\"<>{}|^`", c) == nullptr;
  });
}

std::string_view TrimBlanks(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

}  // namespace

bool IsToken(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](char c) { return kToken[static_cast<uint8_t>(c)]; });
}

bool IsFieldValue(std::string_view text) {
  // Without an early end the compiler takes many bytes at a time.
  bool bad = false;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    bad |= (byte < 0x20 && byte != '\t') || byte == 0x7f;
  }
  return !bad;
}

Http1Parser Http1Parser::ForRequests(Http1Limits limits) {
  return {true, limits};
}
Http1Parser Http1Parser::ForResponses(Http1Limits limits) {
  return {false, limits};
}

void Http1Parser::Reset(bool answers_head) {
  state_ = State::kHead;
  framing_ = Framing::kNone;
  answers_head_ = answers_head;
  keep_alive_ = expects_continue_ = chunked_ = has_length_ = false;
  status_ = error_status_ = 0;
  minor_version_ = 1;
  hosts_ = informational_ = section_size_ = field_lines_ = 0;
  start_line_seen_ = line_complete_ = false;
  length_ = remaining_ = received_ = 0;
  error_ = "";
  line_.clear();
  if (line_.capacity() > kKeptLine) line_ = std::string();
  method_.clear();
  target_.clear();
  headers_ = Headers();
  body_ = {};
}

Http1Parser::Event Http1Parser::Fail(int status, const char* what) {
  state_ = State::kError;
  error_status_ = status;
  error_ = what;
  keep_alive_ = false;
  return Event::kError;
}

Http1Parser::Event Http1Parser::Next(std::string_view& input) {
  for (;;) {
    switch (state_) {
      case State::kHead: {
        const Event event = ReadHead(input);
        // An informational response was skipped: the head proper follows.
        if (event == Event::kHead && !requests_ && status_ < 200) continue;
        return event;
      }
      case State::kLength:
        return TakeBody(input, State::kEnd);
      case State::kUntilClose:
        if (input.empty()) return Event::kNeedMore;
        if (input.size() > limits_.max_body_bytes - received_) return Fail(413, "body too large");
        received_ += input.size();
        body_ = input;
        input = {};
        return Event::kBody;
      case State::kChunkSize: {
        std::string_view line;
        if (!ReadLine(input, kMaxChunkLine, line)) break;
        section_size_ = 0;
        if (!ParseChunkSize(line)) break;
        continue;
      }
      case State::kChunkData:
        return TakeBody(input, State::kChunkEnd);
      case State::kChunkEnd: {
        std::string_view line;
        if (!ReadLine(input, 2, line)) break;
        section_size_ = 0;
        state_ = State::kChunkSize;
        continue;
      }
      case State::kTrailers: {
        std::string_view line;
        if (!ReadLine(input, kMaxTrailerBytes, line)) break;
        if (line.empty()) {
          state_ = State::kEnd;
          return Event::kEnd;
        }
        if (++field_lines_ > limits_.max_headers) return Fail(431, "too many trailer fields");
        if (!ParseField(line)) return Event::kError;
        continue;
      }
      case State::kEnd:
        return Event::kEnd;
      case State::kError:
        return Event::kError;
    }
    return state_ == State::kError ? Event::kError : Event::kNeedMore;
  }
}

Http1Parser::Event Http1Parser::Close() {
  if (state_ == State::kEnd) return Event::kEnd;
  if (state_ == State::kError) return Event::kError;
  if (state_ != State::kUntilClose) return Fail(400, "connection closed inside a message");
  state_ = State::kEnd;
  return Event::kEnd;
}

bool Http1Parser::ReadLine(std::string_view& input, size_t limit, std::string_view& line) {
  if (std::exchange(line_complete_, false)) line_.clear();
  const size_t newline = input.find('\n');
  const size_t take = newline == std::string_view::npos ? input.size() : newline + 1;
  section_size_ += take;
  if (section_size_ > limit) {
    const bool in_chunks = state_ == State::kChunkSize || state_ == State::kChunkEnd;
    Fail(in_chunks ? 400 : 431, in_chunks ? "bad chunk" : "header section too large");
    return false;
  }
  std::string_view all = input.substr(0, take);
  input.remove_prefix(take);
  if (newline == std::string_view::npos || !line_.empty()) {
    line_.append(all);
    all = line_;
  }
  const size_t cr = all.find('\r');
  if (newline == std::string_view::npos) {
    // A CR must be the last byte so far, or it is bare.
    if (cr != std::string_view::npos && cr + 1 != all.size()) Fail(400, "bare CR");
    return false;
  }
  line_complete_ = !line_.empty();
  if (cr == std::string_view::npos || cr + 2 != all.size()) {
    Fail(400, cr == std::string_view::npos ? "bare LF" : "bare CR");
    return false;
  }
  line = all.substr(0, cr);
  return true;
}

Http1Parser::Event Http1Parser::ReadHead(std::string_view& input) {
  for (;;) {
    std::string_view line;
    const bool first = !start_line_seen_;
    if (!ReadLine(input, limits_.max_head_bytes, line)) {
      return state_ == State::kError ? Event::kError : Event::kNeedMore;
    }
    if (first && line.empty()) {
      // One empty line before a request is tolerated (RFC 9112 2.2).
      if (!requests_ || informational_++ > 0) return Fail(400, "empty start line");
      section_size_ = 0;
    } else if (first) {
      start_line_seen_ = true;
      headers_ = Headers();
      if (!(requests_ ? ParseRequestLine(line) : ParseStatusLine(line))) return Event::kError;
    } else if (line.empty()) {
      return FinishHead();
    } else {
      if (++field_lines_ > limits_.max_headers) return Fail(431, "too many header fields");
      if (!ParseField(line)) return Event::kError;
    }
  }
}

Http1Parser::Event Http1Parser::FinishHead() {
  hosts_ = 0;
  chunked_ = has_length_ = false;
  start_line_seen_ = false;
  section_size_ = field_lines_ = 0;
  if (!CheckFields() || !(requests_ ? CheckRequest() : CheckResponse())) return Event::kError;
  if (!requests_ && status_ < 200) {
    if (status_ == 101) return Fail(502, "unasked protocol switch");
    if (++informational_ > kMaxInformational) return Fail(502, "too many informational responses");
    return Event::kHead;
  }
  switch (framing_) {
    case Framing::kNone:
      state_ = State::kEnd;
      break;
    case Framing::kLength:
      state_ = State::kLength;
      break;
    case Framing::kChunked:
      state_ = State::kChunkSize;
      break;
    case Framing::kUntilClose:
      state_ = State::kUntilClose;
      break;
  }
  return Event::kHead;
}

bool Http1Parser::ParseRequestLine(std::string_view line) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    Fail(400, "malformed request line");
    return false;
  }
  const std::string_view method = line.substr(0, first);
  std::string_view target = line.substr(first + 1, last - first - 1);
  const std::string_view version = line.substr(last + 1);
  if (!IsToken(method) || method.size() > 32) {
    Fail(400, "malformed method");
    return false;
  }
  if (version == "HTTP/1.1") {
    minor_version_ = 1;
  } else if (version == "HTTP/1.0") {
    minor_version_ = 0;
  } else {
    Fail(version.starts_with("HTTP/") ? 505 : 400, "not HTTP/1.1");
    return false;
  }
  if (target.size() > limits_.max_target_bytes) {
    Fail(414, "request target too long");
    return false;
  }
  if (!std::all_of(target.begin(), target.end(), IsVisible) ||
      target.find('#') != std::string_view::npos) {
    Fail(400, "malformed request target");
    return false;
  }
  const bool asterisk = target == "*" && method == "OPTIONS";
  const bool absolute = EqualsIgnoreCase(target.substr(0, 7), "http://");
  if (!asterisk && !absolute && !target.starts_with('/')) {
    Fail(400, "malformed request target");
    return false;
  }
  method_ = method;
  target_ = target;
  return true;
}

bool Http1Parser::ParseStatusLine(std::string_view line) {
  const bool known = line.starts_with("HTTP/1.1 ") || line.starts_with("HTTP/1.0 ");
  const auto digit = [line](size_t i) { return line[i] >= '0' && line[i] <= '9'; };
  if (!known || line.size() < 12 || !digit(9) || !digit(10) || !digit(11) ||
      (line.size() > 12 && line[12] != ' ') || !IsFieldValue(line)) {
    Fail(502, "malformed status line");
    return false;
  }
  minor_version_ = line[7] - '0';
  status_ = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
  if (status_ < 100 || status_ > 599) {
    Fail(502, "status out of range");
    return false;
  }
  return true;
}

bool Http1Parser::ParseField(std::string_view line) {
  if (line.front() == ' ' || line.front() == '\t') {
    Fail(400, "folded header line");
    return false;
  }
  const size_t colon = line.find(':');
  const std::string_view name = line.substr(0, colon);
  if (colon == std::string_view::npos || !IsToken(name)) {
    Fail(400, "malformed header name");
    return false;
  }
  const std::string_view value = TrimBlanks(line.substr(colon + 1));
  if (!IsFieldValue(value)) {
    Fail(400, "control character in a header");
    return false;
  }
  if (state_ == State::kHead) headers_.Add(name, value);
  return true;
}

bool Http1Parser::CheckFields() {
  keep_alive_ = minor_version_ == 1;
  expects_continue_ = false;
  bool close = false;
  bool keep = false;
  const auto fail = [this](int status, const char* what) {
    Fail(status, what);
    return false;
  };
  for (const auto& [name, value] : headers_) {
    if (!kFramingSizes[std::min(name.size(), kFramingSizes.size() - 1)]) continue;
    if (EqualsIgnoreCase(name, "Content-Length")) {
      if (std::exchange(has_length_, true)) return fail(400, "repeated Content-Length");
      if (value.empty() || value.size() > 18 ||
          !std::all_of(value.begin(), value.end(), [](char c) { return c >= '0' && c <= '9'; })) {
        return fail(400, "malformed Content-Length");
      }
      length_ = 0;
      for (const char c : value) length_ = length_ * 10 + static_cast<uint64_t>(c - '0');
    } else if (EqualsIgnoreCase(name, "Transfer-Encoding")) {
      if (minor_version_ == 0) return fail(400, "Transfer-Encoding in HTTP/1.0");
      if (chunked_) return fail(400, "repeated Transfer-Encoding");
      if (!EqualsIgnoreCase(value, "chunked")) {
        return fail(requests_ ? 501 : 502, "Transfer-Encoding other than chunked");
      }
      chunked_ = true;
    } else if (EqualsIgnoreCase(name, "Host")) {
      ++hosts_;
      if (!IsAuthority(value)) return fail(400, "malformed Host");
    } else if (EqualsIgnoreCase(name, "Connection")) {
      for (const std::string_view part : Split(value, ',')) {
        const std::string_view token = TrimBlanks(part);
        close |= EqualsIgnoreCase(token, "close");
        keep |= EqualsIgnoreCase(token, "keep-alive");
        if (EqualsIgnoreCase(token, "Content-Length") || EqualsIgnoreCase(token, "Host") ||
            EqualsIgnoreCase(token, "Transfer-Encoding")) {
          return fail(400, "Connection names a framing field");
        }
      }
    } else if (requests_ && EqualsIgnoreCase(name, "Expect")) {
      if (!EqualsIgnoreCase(value, "100-continue")) return fail(417, "unknown expectation");
      expects_continue_ = minor_version_ == 1;
    }
  }
  if (chunked_ && has_length_) return fail(400, "both Content-Length and Transfer-Encoding");
  keep_alive_ = !close && (minor_version_ == 1 || keep);
  return true;
}

bool Http1Parser::CheckRequest() {
  if (hosts_ > 1 || (hosts_ == 0 && minor_version_ == 1)) {
    Fail(400, hosts_ > 1 ? "repeated Host" : "no Host");
    return false;
  }
  if (!target_.starts_with('/') && target_ != "*") {
    // Absolute form: the same as origin form, when it names the same host.
    const std::string_view rest = std::string_view(target_).substr(7);
    const size_t end = rest.find_first_of("/?");
    const std::string_view authority = rest.substr(0, end);
    if (authority.empty() || !EqualsIgnoreCase(authority, headers_.Get("Host").value_or(""))) {
      Fail(400, "request target and Host differ");
      return false;
    }
    std::string origin(end == std::string_view::npos ? "/" : rest.substr(end));
    if (origin.starts_with('?')) origin.insert(0, "/");
    target_ = std::move(origin);
  }
  framing_ = chunked_                     ? Framing::kChunked
             : has_length_ && length_ > 0 ? Framing::kLength
                                          : Framing::kNone;
  if (has_length_ && length_ > limits_.max_body_bytes) {
    Fail(413, "body too large");
    return false;
  }
  remaining_ = framing_ == Framing::kLength ? length_ : 0;
  return true;
}

bool Http1Parser::CheckResponse() {
  if (answers_head_ || status_ < 200 || status_ == 204 || status_ == 304) {
    framing_ = Framing::kNone;
  } else if (chunked_) {
    framing_ = Framing::kChunked;
  } else if (has_length_) {
    framing_ = length_ > 0 ? Framing::kLength : Framing::kNone;
    if (length_ > limits_.max_body_bytes) {
      Fail(413, "body too large");
      return false;
    }
  } else {
    framing_ = Framing::kUntilClose;
    keep_alive_ = false;
  }
  remaining_ = framing_ == Framing::kLength ? length_ : 0;
  return true;
}

bool Http1Parser::ParseChunkSize(std::string_view line) {
  uint64_t size = 0;
  if (line.empty()) {
    Fail(400, "bad chunk");
    return false;
  }
  for (const char c : line) {
    uint64_t digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<uint64_t>(c - '0');
    } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
      digit = static_cast<uint64_t>((c | 0x20) - 'a') + 10;
    } else {
      Fail(400, c == ';' ? "chunk extension" : "bad chunk");
      return false;
    }
    if (size >> 60 != 0) {
      Fail(413, "chunk too large");
      return false;
    }
    size = size * 16 + digit;
  }
  if (size > limits_.max_body_bytes - received_) {
    Fail(413, "body too large");
    return false;
  }
  received_ += size;
  remaining_ = size;
  state_ = size == 0 ? State::kTrailers : State::kChunkData;
  return true;
}

void Http1Parser::SkipContent(uint64_t bytes) {
  WP_DCHECK(bytes <= content_left());
  remaining_ -= bytes;
  if (remaining_ == 0) state_ = State::kEnd;
}

Http1Parser::Event Http1Parser::TakeBody(std::string_view& input, State after) {
  if (input.empty()) return Event::kNeedMore;
  const size_t take = static_cast<size_t>(std::min<uint64_t>(remaining_, input.size()));
  body_ = input.substr(0, take);
  input.remove_prefix(take);
  remaining_ -= take;
  // The end of the content is told without waiting for more input.
  if (remaining_ == 0) state_ = after;
  return Event::kBody;
}

}  // namespace warmpath::net
