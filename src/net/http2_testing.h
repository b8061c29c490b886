// For tests of the gRPC server: a client on nghttp2 without a socket, and services to call.
#pragma once

#include <nghttp2/nghttp2.h>
#include <algorithm>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net/grpc_framing.h"
#include "net/grpc_server.h"

namespace warmpath::net::testing {

inline std::string GrpcFrame(std::string_view message) {
  std::string out;
  AppendGrpcPrefix(out, message.size());
  out += message;
  return out;
}

// Bytes in, bytes out. Requests may be left open; what came back is kept per stream.
class Http2Client {
 public:
  struct Call {
    std::map<std::string, std::string> fields;  // headers and trailers
    std::string body;
    std::string to_send;
    bool end_after = false;
    bool sending = false;
    bool ended = false;  // END_STREAM received
    bool closed = false;
    uint32_t reset_code = 0;
    bool was_reset = false;

    std::string field(const std::string& name) const {
      const auto found = fields.find(name);
      return found == fields.end() ? "" : found->second;
    }
    std::vector<std::string> messages() const {
      std::vector<std::string> all;
      GrpcMessageReader reader;
      std::string_view rest = body;
      while (reader.Next(rest, SIZE_MAX) == GrpcMessageReader::Event::kMessage) {
        all.emplace_back(reader.message());
      }
      return all;
    }
  };
  using Fields = std::vector<std::pair<std::string, std::string>>;

  explicit Http2Client(bool updates_windows = true) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(
        callbacks,
        [](nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
           const uint8_t* value, size_t value_size, uint8_t, void* user) {
          Self(user).calls_[frame->hd.stream_id].fields[std::string(name, name + name_size)] =
              std::string(value, value + value_size);
          return 0;
        });
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        callbacks,
        [](nghttp2_session*, uint8_t, int32_t id, const uint8_t* data, size_t size, void* user) {
          Self(user).calls_[id].body.append(reinterpret_cast<const char*>(data), size);
          return 0;
        });
    nghttp2_session_callbacks_set_on_frame_recv_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, void* user) {
          Http2Client& self = Self(user);
          if (frame->hd.type == NGHTTP2_GOAWAY) {
            ++self.goaways;
            self.goaway_code = frame->goaway.error_code;
            self.goaway_last_id = frame->goaway.last_stream_id;
          }
          if (frame->hd.type == NGHTTP2_RST_STREAM) {
            Call& call = self.calls_[frame->hd.stream_id];
            call.was_reset = true;
            call.reset_code = frame->rst_stream.error_code;
          }
          const bool may_end = frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS;
          if (may_end && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
            self.calls_[frame->hd.stream_id].ended = true;
          }
          if (frame->hd.type == NGHTTP2_PING) ++self.pings;
          return 0;
        });
    nghttp2_session_callbacks_set_on_stream_close_callback(
        callbacks, [](nghttp2_session*, int32_t id, uint32_t, void* user) {
          Self(user).calls_[id].closed = true;
          return 0;
        });
    nghttp2_option* option = nullptr;
    nghttp2_option_new(&option);
    if (!updates_windows) nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_session_client_new2(&session_, callbacks, this, option);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, nullptr, 0);
  }
  ~Http2Client() { nghttp2_session_del(session_); }
  Http2Client(const Http2Client&) = delete;
  Http2Client& operator=(const Http2Client&) = delete;

  // Begins a call with `body` (already framed); `end`: and half-closes it.
  int32_t Start(const std::string& path, std::string body, bool end, const Fields& more = {},
                const std::string& method = "POST",
                const std::string& content_type = "application/grpc") {
    Fields fields = {{":method", method},
                     {":scheme", "http"},
                     {":path", path},
                     {":authority", "test"},
                     {"content-type", content_type},
                     {"te", "trailers"}};
    fields.insert(fields.end(), more.begin(), more.end());
    std::vector<nghttp2_nv> list;
    for (auto& [name, value] : fields) {
      list.push_back({reinterpret_cast<uint8_t*>(name.data()),
                      reinterpret_cast<uint8_t*>(value.data()), name.size(), value.size(), 0});
    }
    nghttp2_data_provider provider;
    provider.source.ptr = this;
    provider.read_callback = Read;
    const int32_t id =
        nghttp2_submit_request(session_, nullptr, list.data(), list.size(), &provider, nullptr);
    if (id > 0) {
      calls_[id].to_send = std::move(body);
      calls_[id].end_after = end;
    }
    return id;
  }
  void Write(int32_t id, std::string_view bytes, bool end = false) {
    calls_[id].to_send += bytes;
    calls_[id].end_after = end;
    nghttp2_session_resume_data(session_, id);
  }
  void Reset(int32_t id, uint32_t code = NGHTTP2_INTERNAL_ERROR) {
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, code);
  }
  void Ping() { nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr); }
  // With updates_windows off: the peer may send so much more.
  void GiveWindow(int32_t id, size_t size) {
    nghttp2_submit_window_update(session_, NGHTTP2_FLAG_NONE, id, static_cast<int32_t>(size));
  }

  std::string Output() {
    std::string out;
    const uint8_t* data = nullptr;
    ssize_t size = 0;
    while ((size = nghttp2_session_mem_send(session_, &data)) > 0) {
      out.append(reinterpret_cast<const char*>(data), static_cast<size_t>(size));
    }
    return out;
  }
  bool Input(std::string_view bytes) {
    return nghttp2_session_mem_recv(session_, reinterpret_cast<const uint8_t*>(bytes.data()),
                                    bytes.size()) >= 0;
  }
  Call& call(int32_t id) { return calls_[id]; }
  void Forget(int32_t id) { calls_.erase(id); }
  size_t settled() const {
    size_t count = 0;
    for (const auto& [id, call] : calls_) count += call.closed ? 1 : 0;
    return count;
  }

  int goaways = 0;
  uint32_t goaway_code = 0;
  int32_t goaway_last_id = -1;
  int pings = 0;  // answers included

 private:
  static Http2Client& Self(void* user) { return *static_cast<Http2Client*>(user); }

  static ssize_t Read(nghttp2_session*, int32_t id, uint8_t* buffer, size_t limit, uint32_t* flags,
                      nghttp2_data_source*, void* user) {
    Call& call = Self(user).calls_[id];
    const size_t size = std::min(limit, call.to_send.size());
    std::copy_n(call.to_send.data(), size, buffer);
    call.to_send.erase(0, size);
    if (call.to_send.empty() && call.end_after) *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (size == 0 && !call.end_after) return NGHTTP2_ERR_DEFERRED;
    return static_cast<ssize_t>(size);
  }

  nghttp2_session* session_ = nullptr;
  std::map<int32_t, Call> calls_;
};

// What a TestService saw. Loop-confined while the server runs.
struct ServiceLog {
  int begun = 0;
  int messages = 0;
  int half_closes = 0;
  int drains = 0;
  int gone = 0;
  int destroyed = 0;
  std::string last_message;
  std::vector<GrpcStream*> streams;  // open ones
};

// /t.T/Echo answers each message and ends with OK after the half-close; /t.T/Done also completes
// after each message and never finishes; /t.T/Hold answers nothing; /t.T/Fail ends with NOT_FOUND
// at the first message.
inline GrpcServer::Service TestService(ServiceLog& log) {
  enum class Kind { kEcho, kDone, kHold, kFail };
  struct Handler final : GrpcHandler {
    Handler(ServiceLog& log_in, GrpcStream& stream_in, Kind kind_in)
        : log(log_in), stream(stream_in), kind(kind_in) {
      ++log.begun;
      log.streams.push_back(&stream);
    }
    ~Handler() override {
      ++log.destroyed;
      std::erase(log.streams, &stream);
    }
    void OnMessage(std::string_view message) override {
      ++log.messages;
      log.last_message = message;
      if (kind == Kind::kFail) stream.Finish(GrpcStatus::kNotFound, "nothing at 100 %\n");
      if (kind == Kind::kEcho || kind == Kind::kDone) stream.Send(message);
      if (kind == Kind::kDone) stream.MarkComplete();
    }
    void OnHalfClose() override {
      ++log.half_closes;
      if (kind == Kind::kEcho) stream.Finish(GrpcStatus::kOk);
    }
    void OnDrain() override { ++log.drains; }
    void OnGone() override {
      ++log.gone;
      stream.Send("after the end");
      stream.Finish(GrpcStatus::kOk);
    }
    ServiceLog& log;
    GrpcStream& stream;
    const Kind kind;
  };
  return [&log](std::string_view path, GrpcStream& stream) -> std::unique_ptr<GrpcHandler> {
    if (path == "/t.T/Echo") return std::make_unique<Handler>(log, stream, Kind::kEcho);
    if (path == "/t.T/Done") return std::make_unique<Handler>(log, stream, Kind::kDone);
    if (path == "/t.T/Hold") return std::make_unique<Handler>(log, stream, Kind::kHold);
    if (path == "/t.T/Fail") return std::make_unique<Handler>(log, stream, Kind::kFail);
    return nullptr;
  };
}

}  // namespace warmpath::net::testing
