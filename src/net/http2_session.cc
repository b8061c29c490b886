#include "net/http2_session.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "net/http2_stream.h"

namespace warmpath::net {
namespace {

// Frames that carry nothing for a stream. BDP probes of a fast peer on the same machine come in
// thousands per second; a flood is beyond that.
constexpr double kControlFramesPerSecond = 10'000;
constexpr double kControlFrameBurst = 50'000;
constexpr double kSettingsCost = 50;       // a new initial window walks all streams
constexpr double kResetBurstSeconds = 20;  // documented in GrpcServerOptions
constexpr size_t kMaxQueuedAcks = 256;
constexpr int kMaxContinuations = 8;
// Headers over max_header_bytes are dropped and answered; over this many times as much they are a
// decompression bomb, and the connection ends.
constexpr size_t kHeaderBombFactor = 16;
constexpr size_t kFrameHeader = 9;
constexpr Duration kDrainGrace = std::chrono::seconds(1);
constexpr std::array<uint8_t, 8> kDrainPing = {'w', 'p', 'd', 'r', 'a', 'i', 'n', 0};

void AppendBigEndian(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
}

std::string_view View(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace

struct Http2Session::Callbacks {
  static Http2Session& Self(void* user) { return *static_cast<Http2Session*>(user); }
  static Http2Stream* Find(nghttp2_session* session, int32_t id) {
    return static_cast<Http2Stream*>(nghttp2_session_get_stream_user_data(session, id));
  }

  static int BeginFrame(nghttp2_session*, const nghttp2_frame_hd* header, void* user) {
    Http2Session& self = Self(user);
    if (header->type != NGHTTP2_CONTINUATION) {
      self.continuations_ = 0;
    } else if (++self.continuations_ > kMaxContinuations) {
      return self.FailConnection(NGHTTP2_ENHANCE_YOUR_CALM, "too many CONTINUATION frames");
    }
    return 0;
  }

  static int BeginHeaders(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    return Self(user).OnBeginHeaders(frame->hd.stream_id);
  }

  static int Header(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name,
                    size_t name_size, const uint8_t* value, size_t value_size, uint8_t,
                    void* user) {
    Http2Stream* stream = Find(session, frame->hd.stream_id);
    if (stream == nullptr) return 0;
    return Self(user).OnHeader(*stream, View(name, name_size), View(value, value_size),
                               frame->headers.cat != NGHTTP2_HCAT_REQUEST);
  }

  static int FrameReceived(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    Http2Session& self = Self(user);
    Http2Stream* stream = frame->hd.stream_id > 0 ? Find(session, frame->hd.stream_id) : nullptr;
    const bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS:
        if (stream == nullptr) return 0;
        if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) stream->OnHeadersEnd();
        if (end) stream->OnHalfClose();
        return 0;
      case NGHTTP2_DATA:
        if (stream != nullptr && end) {
          stream->OnHalfClose();
          return 0;
        }
        return frame->hd.length <= frame->data.padlen ? self.OnControlFrame(1) : 0;
      case NGHTTP2_RST_STREAM:
        return self.OnResetReceived(stream);
      case NGHTTP2_WINDOW_UPDATE:
        return 0;
      case NGHTTP2_SETTINGS:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0) return 0;
        self.settings_received_ = true;
        return self.OnControlFrame(kSettingsCost);
      case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0) self.OnPingAck(frame->ping.opaque_data);
        return self.OnControlFrame(1);
      default:
        return self.OnControlFrame(1);
    }
  }

  static int DataChunk(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data,
                       size_t size, void*) {
    if (Http2Stream* stream = Find(session, id)) {
      stream->OnData(View(data, size));
    } else {
      nghttp2_session_consume(session, id, size);
    }
    return 0;
  }

  static int FrameSent(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    if (frame->hd.type == NGHTTP2_RST_STREAM) {
      return Self(user).OnResetSent(frame->rst_stream.error_code);
    }
    if (frame->hd.type == NGHTTP2_HEADERS && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
      Http2Stream* stream = Find(session, frame->hd.stream_id);
      if (stream == nullptr) return 0;
      stream->OnEndSent();
      // The answer is complete whatever else the caller had to say.
      if (!stream->remote_closed()) {
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id(), NGHTTP2_NO_ERROR);
      }
    }
    return 0;
  }

  static int SendData(nghttp2_session* session, nghttp2_frame* frame, const uint8_t* header,
                      size_t size, nghttp2_data_source*, void* user) {
    Http2Session& self = Self(user);
    Http2Stream* stream = Find(session, frame->hd.stream_id);
    if (stream == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (self.out_->size() >= self.out_limit_) return NGHTTP2_ERR_WOULDBLOCK;
    self.out_->append(reinterpret_cast<const char*>(header), kFrameHeader);
    stream->Take(*self.out_, size);
    return 0;
  }

  static int StreamClosed(nghttp2_session* session, int32_t id, uint32_t, void* user) {
    if (Http2Stream* stream = Find(session, id)) Self(user).OnStreamClose(*stream);
    return 0;
  }

  static nghttp2_session_callbacks* Table() {
    static nghttp2_session_callbacks* const table = [] {
      nghttp2_session_callbacks* made = nullptr;
      WP_CHECK(nghttp2_session_callbacks_new(&made) == 0);
      nghttp2_session_callbacks_set_on_begin_frame_callback(made, BeginFrame);
      nghttp2_session_callbacks_set_on_begin_headers_callback(made, BeginHeaders);
      nghttp2_session_callbacks_set_on_header_callback(made, Header);
      nghttp2_session_callbacks_set_on_frame_recv_callback(made, FrameReceived);
      nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, DataChunk);
      nghttp2_session_callbacks_set_on_frame_send_callback(made, FrameSent);
      nghttp2_session_callbacks_set_send_data_callback(made, SendData);
      nghttp2_session_callbacks_set_on_stream_close_callback(made, StreamClosed);
      return made;
    }();
    return table;
  }

  static nghttp2_option* Options() {
    static nghttp2_option* const options = [] {
      nghttp2_option* made = nullptr;
      WP_CHECK(nghttp2_option_new(&made) == 0);
      nghttp2_option_set_no_auto_window_update(made, 1);
      nghttp2_option_set_no_closed_streams(made, 1);
      // Envoy ends every stream by a reset: this class counts those that matter itself.
      nghttp2_option_set_stream_reset_rate_limit(made, UINT64_MAX / 2, UINT64_MAX / 2);
      nghttp2_option_set_max_outbound_ack(made, kMaxQueuedAcks);
      // nghttp2 counts the pieces in which frame headers arrive, so its limit has room for headers
      // cut at every byte; BeginFrame counts frames. Of a block already refused nghttp2 reports no
      // more frames: there its own limit is the only one, and nothing is kept.
      nghttp2_option_set_max_continuations(made, (kMaxContinuations + 1) * kFrameHeader);
      return made;
    }();
    return options;
  }
};

Http2Session::Http2Session(Host& host, const GrpcServerOptions& options,
                           const GrpcServer::Service& service, std::atomic<size_t>& held_bytes)
    : host_(host),
      options_(options),
      service_(service),
      held_bytes_(held_bytes),
      resets_(options.max_resets_per_second, options.max_resets_per_second * kResetBurstSeconds),
      control_frames_(kControlFramesPerSecond, kControlFrameBurst) {
  WP_CHECK(nghttp2_session_server_new2(&session_, Callbacks::Table(), this, Callbacks::Options()) ==
           0);
  const auto header_list =
      static_cast<uint32_t>(std::min<size_t>(options.max_header_bytes, UINT32_MAX));
  const std::array<nghttp2_settings_entry, 4> settings = {{
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, options.max_concurrent_streams},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, options.stream_window},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, header_list},
      {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
  }};
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings.data(), settings.size());
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0,
                                        static_cast<int32_t>(options.connection_window));
}

Http2Session::~Http2Session() {
  Close();
  nghttp2_session_del(session_);
}

// ---- bytes

Status Http2Session::Receive(std::string_view bytes) {
  if (failed_ || closed_) return Fail(Code::kCancelled, "the connection has ended");
  now_ = host_.Now();
  const bool was_busy = std::exchange(busy_, true);
  const ssize_t taken = nghttp2_session_mem_recv(
      session_, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  busy_ = was_busy;
  if (taken >= 0) return {};
  failed_ = true;
  if (error_.empty()) {
    error_ = nghttp2_strerror(static_cast<int>(taken));
    error_code_ = taken == NGHTTP2_ERR_FLOODED ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_PROTOCOL_ERROR;
  }
  SayLastWords(error_code_);
  return Fail(Code::kInvalidArgument, error_);
}

void Http2Session::Produce(std::string& out, size_t limit) {
  const bool was_busy = std::exchange(busy_, true);
  out_ = &out;
  out_limit_ = limit;
  do {
    work_ = false;
    while (!failed_ && out.size() < limit) {
      const uint8_t* frame = nullptr;
      const ssize_t size = nghttp2_session_mem_send(session_, &frame);
      if (size < 0) {
        failed_ = true;
        SayLastWords(error_.empty() ? NGHTTP2_INTERNAL_ERROR : error_code_);
      }
      if (size <= 0) break;
      out.append(reinterpret_cast<const char*>(frame), static_cast<size_t>(size));
    }
    DeliverDrains();
  } while (work_ && !failed_ && out.size() < limit);
  out += std::exchange(last_words_, {});
  out_ = nullptr;
  busy_ = was_busy;
}

void Http2Session::DeliverDrains() {
  for (size_t i = 0; i < drained_.size(); ++i) {
    if (failed_ || closed_) break;
    if (Http2Stream* stream = Callbacks::Find(session_, drained_[i])) stream->DeliverDrain();
  }
  drained_.clear();
}

void Http2Session::Work() {
  work_ = true;
  if (!busy_) host_.OnWork();
}

size_t Http2Session::queued_frames() const {
  return failed_ ? 0 : nghttp2_session_get_outbound_queue_size(session_);
}

bool Http2Session::finished() const {
  if (failed_) return true;
  if (nghttp2_session_want_write(session_) != 0) return false;
  // After the notice alone nghttp2 would end an idle connection before its grace is over.
  const bool in_grace = drain_ == DrainState::kNoticed && !closed_;
  return !in_grace && nghttp2_session_want_read(session_) == 0;
}

// ---- what nghttp2 reports

int Http2Session::OnBeginHeaders(int32_t id) {
  auto* stream = new Http2Stream(*this, id);  // ours until OnStreamClose or Close
  stream->next_ = first_;
  if (first_ != nullptr) first_->previous_ = stream;
  first_ = stream;
  ++streams_;
  nghttp2_session_set_stream_user_data(session_, id, stream);
  host_.OnStreamBegin();
  return 0;
}

int Http2Session::OnHeader(Http2Stream& stream, std::string_view name, std::string_view value,
                           bool trailer) {
  if (trailer) {
    stream.header_bytes_ += name.size() + value.size() + 32;
  } else {
    stream.AddHeader(name, value);
  }
  if (stream.header_bytes_ > kHeaderBombFactor * options_.max_header_bytes) {
    return FailConnection(NGHTTP2_ENHANCE_YOUR_CALM, "headers expand beyond every limit");
  }
  return 0;
}

int Http2Session::OnControlFrame(double cost) {
  if (control_frames_.Take(now_, cost)) return 0;
  return FailConnection(NGHTTP2_ENHANCE_YOUR_CALM, "too many control frames");
}

int Http2Session::OnResetReceived(Http2Stream* stream) {
  if (stream == nullptr) return OnControlFrame(1);
  if (stream->settled() || resets_.Take(now_)) return 0;
  return FailConnection(NGHTTP2_ENHANCE_YOUR_CALM, "too many streams reset before their end");
}

int Http2Session::OnResetSent(uint32_t code) {
  // NO_ERROR follows an answer, CANCEL gives up on a peer that does not read; every other reset is
  // the peer's fault, and as cheap for it to provoke as one of its own.
  if (code == NGHTTP2_NO_ERROR || code == NGHTTP2_CANCEL || resets_.Take(host_.Now())) return 0;
  return FailConnection(NGHTTP2_ENHANCE_YOUR_CALM, "too many faulty streams");
}

void Http2Session::OnPingAck(const uint8_t* opaque) {
  unanswered_pings_ = 0;
  if (drain_ == DrainState::kNoticed &&
      std::memcmp(opaque, kDrainPing.data(), kDrainPing.size()) == 0) {
    FinishDrain();
  }
}

void Http2Session::OnStreamClose(Http2Stream& stream) {
  nghttp2_session_set_stream_user_data(session_, stream.id(), nullptr);
  if (stream.next_ != nullptr) stream.next_->previous_ = stream.previous_;
  if (stream.previous_ != nullptr) {
    stream.previous_->next_ = stream.next_;
  } else {
    first_ = stream.next_;
  }
  stream.End();
  delete &stream;
  --streams_;
  host_.OnStreamEnd();
}

int Http2Session::FailConnection(uint32_t code, std::string reason) {
  error_code_ = code;
  error_ = std::move(reason);
  return NGHTTP2_ERR_CALLBACK_FAILURE;
}

void Http2Session::SayLastWords(uint32_t code) {
  last_words_.assign({0, 0, 8, NGHTTP2_GOAWAY, 0, 0, 0, 0, 0});
  AppendBigEndian(last_words_,
                  static_cast<uint32_t>(nghttp2_session_get_last_proc_stream_id(session_)));
  AppendBigEndian(last_words_, code);
}

// ---- time and ends

std::optional<TimePoint> Http2Session::next_deadline() const {
  if (deadlines_.empty()) return std::nullopt;
  return deadlines_.begin()->first;
}

void Http2Session::Tick() {
  if (failed_ || closed_) return;
  const TimePoint now = host_.Now();
  const bool was_busy = std::exchange(busy_, true);
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    if (Http2Stream* stream = deadlines_.begin()->second) {
      stream->OnExpired();
    } else {
      deadlines_.erase(deadlines_.begin());
      FinishDrain();
    }
  }
  busy_ = was_busy;
  if (work_) Work();
}

void Http2Session::Ping() {
  if (failed_ || closed_) return;
  ++unanswered_pings_;
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
  Work();
}

void Http2Session::Drain() {
  if (failed_ || closed_ || drain_ != DrainState::kNo) return;
  drain_ = DrainState::kNoticed;
  // Streams the peer began before it heard of this are served; the answer to the ping says that no
  // more of them come.
  nghttp2_submit_shutdown_notice(session_);
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, kDrainPing.data());
  deadlines_.emplace(host_.Now() + kDrainGrace, nullptr);
  Work();
}

void Http2Session::FinishDrain() {
  if (drain_ != DrainState::kNoticed) return;
  drain_ = DrainState::kFinal;
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE,
                        nghttp2_session_get_last_proc_stream_id(session_), NGHTTP2_NO_ERROR,
                        nullptr, 0);
  Work();
}

void Http2Session::Close() {
  if (std::exchange(closed_, true)) return;
  busy_ = true;
  while (first_ != nullptr) OnStreamClose(*first_);
  deadlines_.clear();
  if (!failed_) nghttp2_session_terminate_session(session_, NGHTTP2_NO_ERROR);
}

}  // namespace warmpath::net
