#include "net/http2_stream.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace warmpath::net {
namespace {

constexpr size_t kSpareQueueCapacity = 8 << 10;
constexpr size_t kMaxSpareQueues = 64;
// Memory of queues that were sent, for the next ones of the loop.
thread_local std::vector<std::string> spare_queues;
constexpr size_t kCompactAbove = 64 << 10;

nghttp2_nv Field(std::string_view name, std::string_view value, bool copy_value = false) {
  uint8_t flags = NGHTTP2_NV_FLAG_NO_COPY_NAME;
  if (!copy_value) flags |= NGHTTP2_NV_FLAG_NO_COPY_VALUE;
  return {reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
          flags};
}

std::string_view StatusText(GrpcStatus status) {
  static constexpr std::array<std::string_view, 17> kTexts = {
      "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"};
  const auto code = static_cast<size_t>(status);
  return code < kTexts.size() ? kTexts[code] : "2";
}

ssize_t ReadData(nghttp2_session* session, int32_t id, uint8_t*, size_t limit, uint32_t* flags,
                 nghttp2_data_source*, void*) {
  auto* stream = static_cast<Http2Stream*>(nghttp2_session_get_stream_user_data(session, id));
  if (stream == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  const size_t size = stream->Peek(limit, *flags);
  if (size == 0 && (*flags & NGHTTP2_DATA_FLAG_EOF) == 0) return NGHTTP2_ERR_DEFERRED;
  return static_cast<ssize_t>(size);
}

}  // namespace

Http2Stream::Http2Stream(Http2Session& session, int32_t id) : session_(session), id_(id) {}

Http2Stream::~Http2Stream() = default;

Loop& Http2Stream::loop() {
  return session_.host_.loop();
}

std::string_view Http2Stream::peer() const {
  return session_.host_.peer();
}

// ---- receiving

void Http2Stream::AddHeader(std::string_view name, std::string_view value) {
  header_bytes_ += name.size() + value.size() + 32;
  if (header_bytes_ > session_.options_.max_header_bytes) return;
  if (name == ":method") {
    post_ = value == "POST";
  } else if (name == ":path") {
    path_ = value;
  } else if (name == "content-type") {
    if (!std::exchange(content_type_seen_, true)) is_grpc_ = IsGrpcContentType(value);
  } else if (name == "grpc-encoding") {
    if (!std::exchange(encoding_seen_, true)) compressed_ = value != "identity";
  } else if (name == "grpc-timeout") {
    if (!std::exchange(timeout_seen_, true)) timeout_ = ParseGrpcTimeout(value);
  }
}

void Http2Stream::OnHeadersEnd() {
  if (header_bytes_ > session_.options_.max_header_bytes) {
    Refuse(GrpcStatus::kResourceExhausted, "the request's headers are too large");
    return;
  }
  if (!post_) {
    Refuse(GrpcStatus::kInternal, "gRPC requests are POST", "405");
    return;
  }
  if (!is_grpc_) {
    Refuse(GrpcStatus::kInternal, "content-type is not application/grpc", "415");
    return;
  }
  if (compressed_) {
    Refuse(GrpcStatus::kUnimplemented, "compressed messages are not accepted");
    return;
  }
  if (timeout_) SetDeadline(*timeout_);
  handler_ = session_.service_(path_, *this);
  path_ = std::string();
  if (!handler_ && !finished_) {
    Refuse(GrpcStatus::kUnimplemented, "unknown service or method");
  }
}

void Http2Stream::OnData(std::string_view data) {
  // The connection's window is given back at once, so that a stream that is not read never blocks
  // the others; the stream's own window says how much one may be ahead.
  nghttp2_session_consume_connection(session_.session_, data.size());
  if (reading_ || finished_) {
    nghttp2_session_consume_stream(session_.session_, id_, data.size());
  } else {
    held_ += static_cast<uint32_t>(data.size());
  }
  const size_t limit = session_.options_.max_message_bytes;
  while (!finished_) {
    const GrpcMessageReader::Event event = reader_.Next(data, limit);
    if (event == GrpcMessageReader::Event::kMessage) {
      handler_->OnMessage(reader_.message());
      continue;
    }
    if (event == GrpcMessageReader::Event::kCompressed) {
      Refuse(GrpcStatus::kUnimplemented, "compressed messages are not accepted");
    } else if (event == GrpcMessageReader::Event::kTooLarge) {
      Refuse(GrpcStatus::kResourceExhausted, "message of " + std::to_string(reader_.announced()) +
                                                 " bytes, at most " + std::to_string(limit) +
                                                 " are accepted");
    } else if (!CountHeld()) {
      Refuse(GrpcStatus::kResourceExhausted, "the server holds too many incomplete messages");
    }
    break;
  }
  if (finished_) reader_ = GrpcMessageReader();
  CountHeld();
}

bool Http2Stream::CountHeld() {
  const size_t held = reader_.buffered();
  if (held == counted_) return true;
  const bool grows = held > counted_;
  // Unsigned: a difference below zero wraps around twice.
  const size_t change = held - std::exchange(counted_, held);
  const size_t all = session_.held_bytes_.fetch_add(change, std::memory_order_relaxed) + change;
  return !grows || all <= session_.options_.max_held_bytes;
}

void Http2Stream::OnHalfClose() {
  if (std::exchange(remote_closed_, true) || finished_) return;
  if (reader_.mid_message()) {
    Refuse(GrpcStatus::kInternal, "the stream ended inside a message");
  } else {
    handler_->OnHalfClose();
  }
}

void Http2Stream::SetReading(bool reading) {
  reading_ = reading;
  if (!reading_ || held_ == 0) return;
  nghttp2_session_consume_stream(session_.session_, id_, std::exchange(held_, 0));
  session_.Work();
}

// ---- sending

void Http2Stream::Respond() {
  responded_ = true;
  const std::array fields = {Field(":status", "200"), Field("content-type", "application/grpc")};
  nghttp2_data_provider provider;
  provider.source.ptr = nullptr;
  provider.read_callback = ReadData;
  nghttp2_submit_response(session_.session_, id_, fields.data(), fields.size(), &provider);
  // Streams take turns, frame by frame.
  const nghttp2_extpri priority{NGHTTP2_EXTPRI_DEFAULT_URGENCY, 1};
  nghttp2_session_change_extpri_stream_priority(session_.session_, id_, &priority, 1);
}

void Http2Stream::SendPieces(std::span<const std::string_view> pieces) {
  if (finished_) return;
  size_t size = 0;
  for (const std::string_view piece : pieces) size += piece.size();
  if (out_.empty() && !spare_queues.empty()) {
    out_ = std::move(spare_queues.back());
    spare_queues.pop_back();
  }
  out_.reserve(out_.size() + kGrpcPrefix + size);
  AppendGrpcPrefix(out_, size);
  for (const std::string_view piece : pieces) out_.append(piece);
  if (queued_bytes() >= session_.options_.low_water_bytes) above_low_water_ = true;
  if (!responded_) {
    Respond();
  } else if (std::exchange(deferred_, false)) {
    nghttp2_session_resume_data(session_.session_, id_);
  }
  session_.Work();
}

void Http2Stream::Finish(GrpcStatus status, std::string_view message) {
  if (!finished_) Answer(status, message, "200");
}

void Http2Stream::Refuse(GrpcStatus status, std::string_view message, const char* http_status) {
  if (finished_) return;
  TellGone();
  if (!finished_) Answer(status, message, http_status);
}

void Http2Stream::Answer(GrpcStatus status, std::string_view message, const char* http_status) {
  finished_ = true;
  status_ = status;
  if (held_ > 0) {
    nghttp2_session_consume_stream(session_.session_, id_, std::exchange(held_, 0));
  }
  // A peer that takes neither the rest of the answer nor its end is not waited for.
  SetDeadline(session_.options_.write_timeout);
  if (responded_) {
    status_message_ = EncodeGrpcMessage(message);
    if (std::exchange(deferred_, false)) nghttp2_session_resume_data(session_.session_, id_);
  } else {
    responded_ = trailers_submitted_ = true;
    const std::string text = EncodeGrpcMessage(message);
    const std::array fields = {
        Field(":status", std::string_view(http_status)), Field("content-type", "application/grpc"),
        Field("grpc-status", StatusText(status)), Field("grpc-message", text, /*copy_value=*/true)};
    nghttp2_submit_response(session_.session_, id_, fields.data(),
                            text.empty() ? fields.size() - 1 : fields.size(), nullptr);
  }
  session_.Work();
}

void Http2Stream::SubmitTrailers() {
  if (std::exchange(trailers_submitted_, true)) return;
  const std::array fields = {Field("grpc-status", StatusText(status_)),
                             Field("grpc-message", status_message_, /*copy_value=*/true)};
  nghttp2_submit_trailer(session_.session_, id_, fields.data(),
                         status_message_.empty() ? fields.size() - 1 : fields.size());
}

size_t Http2Stream::Peek(size_t limit, uint32_t& data_flags) {
  const size_t size = std::min(limit, queued_bytes());
  if (size == queued_bytes() && finished_) {
    data_flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    SubmitTrailers();
  } else if (size == 0) {
    deferred_ = true;
  }
  if (size > 0) data_flags |= NGHTTP2_DATA_FLAG_NO_COPY;
  return size;
}

void Http2Stream::Take(std::string& out, size_t size) {
  out.append(out_, sent_, size);
  sent_ += size;
  if (sent_ == out_.size()) {
    FreeQueue();
  } else if (sent_ > kCompactAbove && sent_ > out_.size() / 2) {
    out_.erase(0, sent_);
    sent_ = 0;
  }
  if (above_low_water_ && queued_bytes() < session_.options_.low_water_bytes) {
    above_low_water_ = false;
    if (!finished_) session_.drained_.push_back(id_);
  }
}

void Http2Stream::FreeQueue() {
  out_.clear();
  sent_ = 0;
  if (out_.capacity() <= kSpareQueueCapacity && spare_queues.size() < kMaxSpareQueues) {
    spare_queues.push_back(std::move(out_));
  }
  out_ = std::string();
}

void Http2Stream::DeliverDrain() {
  if (!finished_ && handler_) handler_->OnDrain();
}

// ---- ending

void Http2Stream::SetDeadline(Duration from_now) {
  ClearDeadline();
  deadline_ = session_.deadlines_.emplace(session_.host_.Now() + from_now, this);
  deadline_set_ = true;
}

void Http2Stream::ClearDeadline() {
  if (std::exchange(deadline_set_, false)) session_.deadlines_.erase(deadline_);
}

void Http2Stream::OnExpired() {
  ClearDeadline();
  if (finished_) {
    nghttp2_submit_rst_stream(session_.session_, NGHTTP2_FLAG_NONE, id_, NGHTTP2_CANCEL);
    session_.Work();
  } else {
    Refuse(GrpcStatus::kDeadlineExceeded, "the caller's deadline passed");
  }
}

void Http2Stream::TellGone() {
  if (!handler_ || finished_ || complete_) return;
  // No call back into the stream from here has an effect.
  finished_ = true;
  handler_->OnGone();
  finished_ = false;
}

void Http2Stream::End() {
  ClearDeadline();
  session_.held_bytes_ -= std::exchange(counted_, 0);
  TellGone();
  finished_ = true;
  handler_.reset();
}

}  // namespace warmpath::net
