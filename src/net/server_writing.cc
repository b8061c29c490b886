// ServerConnection: from what an exchange answers to bytes on their way.
#include <utility>

#include "base/check.h"
#include "net/content_length.h"
#include "net/http1_writer.h"
#include "net/server_connection.h"
#include "net/server_exchange.h"

namespace warmpath::net {
namespace {

constexpr size_t kKeptOutputCapacity = 64 << 10;
constexpr size_t kUsualOutput = 64;
constexpr size_t kSpareOutput = 16 << 10;
constexpr size_t kSpareOutputs = 32;

}  // namespace

void ServerConnection::StartHead(int status, const Headers& headers,
                                 std::optional<uint64_t> length) {
  WP_DCHECK(!response_begun_);
  if (response_begun_) return;
  response_begun_ = true;
  // Content that is still to come is not waited for.
  if (shared_->draining || receiving_) keep_alive_ = false;
  const bool bodiless_status = status == 204 || status == 304;
  no_content_ |= bodiless_status;
  const bool http11 = parser_.minor_version() == 1;
  chunked_ = !length && !no_content_ && http11;
  // An HTTP/1.0 client without a length reads until we close.
  if (!length && !no_content_ && !http11) keep_alive_ = false;
  if (!no_content_) body_left_ = length;
  ResponseFraming framing;
  framing.chunked = chunked_ || (!length && http11 && !bodiless_status);  // HEAD: as GET would
  if (!bodiless_status) framing.content_length = length;
  framing.connection = !keep_alive_ ? "close" : http11 ? "" : "keep-alive";
  framing.server_name = shared_->options.server_name;
  BorrowOutput();
  AppendResponseHead(out_, status, headers, framing);
}

void ServerConnection::Respond(int status, const Headers& headers, std::string_view body) {
  if (response_begun_) return;
  const std::optional<uint64_t> declared = ContentLength(headers);
  const bool describes = no_content_ && body.empty() && declared;  // HEAD answered without its body
  StartHead(status, headers, describes ? *declared : body.size());
  if (!no_content_) out_.append(body);
  body_left_.reset();
  response_ended_ = true;
  ScheduleFlush();
}

void ServerConnection::Begin(int status, const Headers& headers) {
  if (response_begun_) return;
  StartHead(status, headers, ContentLength(headers));
  ScheduleFlush();
}

size_t ServerConnection::Write(std::string_view bytes) {
  WP_DCHECK(response_begun_);
  if (!response_begun_ || no_content_ || bytes.empty()) return queued();
  if (body_left_) {
    WP_DCHECK(bytes.size() <= *body_left_);
    bytes = bytes.substr(0, static_cast<size_t>(std::min<uint64_t>(bytes.size(), *body_left_)));
    *body_left_ -= bytes.size();
  }
  BorrowOutput();
  if (chunked_) {
    AppendChunk(out_, bytes);
  } else {
    out_.append(bytes);
  }
  if (queued() > shared_->options.high_water_bytes) over_high_water_ = true;
  ScheduleFlush();
  return queued();
}

void ServerConnection::End() {
  WP_DCHECK(response_begun_);
  if (!response_begun_) return;
  if (body_left_.value_or(0) > 0) {  // shorter than declared: the client must see that it is
    Abort();
    return;
  }
  if (chunked_) AppendLastChunk(out_);
  response_ended_ = true;
  ScheduleFlush();
}

void ServerConnection::Abort() {
  Shut(/*tell_exchange=*/false, /*reset=*/true);
}

// Connections with nothing to send hold no buffer.
void ServerConnection::BorrowOutput() {
  auto& spares = loop_.impl().spare_outputs;
  if (!out_.empty() || out_.capacity() >= kUsualOutput || spares.empty()) return;
  out_.swap(spares.back());
  spares.pop_back();
}

void ServerConnection::GiveBackOutput() {
  auto& spares = loop_.impl().spare_outputs;
  out_.clear();
  sent_ = 0;
  const size_t capacity = out_.capacity();
  if (capacity >= kUsualOutput && capacity <= kSpareOutput && spares.size() < kSpareOutputs) {
    spares.push_back(std::move(out_));
  }
  out_ = std::string();
}

void ServerConnection::ScheduleFlush() {
  if (flush_scheduled_ || watching_write_) return;
  flush_scheduled_ = true;
  loop_.impl().reactor.Defer([self = shared_from_this()] {
    self->flush_scheduled_ = false;
    self->Flush();
  });
}

void ServerConnection::WatchWrite() {
  watching_write_ = true;
  socket_.async_wait(TcpSocket::wait_write, [self = shared_from_this()](const error_code& error) {
    self->watching_write_ = false;
    if (!error) self->Flush();
  });
}

void ServerConnection::Flush() {
  if (state_ == State::kClosed || watching_write_) return;
  while (unsent()) {
    error_code error;
    const std::string_view left(out_.data() + sent_, queued());
    const size_t size = tls_ ? tls_->WriteSome(socket_, left, {}, error)
                             : socket_.write_some(asio::buffer(left), error);
    if (error == asio::error::would_block || error == asio::error::interrupted) {
      if (state_ == State::kHandling) deadline_.Set(shared_->options.write_timeout);
      WatchWrite();
      break;
    }
    if (error) {
      PeerGone();
      return;
    }
    sent_ += size;
  }
  if (queued() == 0) {
    GiveBackOutput();
    if (state_ == State::kHandling && !unsent()) deadline_.Clear();
  } else if (sent_ > kKeptOutputCapacity && sent_ > out_.size() / 2) {
    out_.erase(0, sent_);
    sent_ = 0;
  }
  if (over_high_water_ && queued() <= shared_->options.high_water_bytes / 2) {
    over_high_water_ = false;
    if (exchange_ && !response_ended_) {
      const auto exchange = exchange_;
      exchange->Drained();
      if (state_ == State::kClosed) return;
    }
  }
  if (unsent()) return;
  if (response_ended_) {
    FinishResponse();
  } else if (state_ == State::kLinger) {
    error_code ignored;
    socket_.shutdown(TcpSocket::shutdown_send, ignored);
  }
}

void ServerConnection::FinishResponse() {
  const auto self = shared_from_this();
  EndRequest();
  StopReceiving();
  if (const auto exchange = std::exchange(exchange_, nullptr)) exchange->Detach(false);
  response_begun_ = response_ended_ = chunked_ = over_high_water_ = false;
  body_left_.reset();
  if (!keep_alive_ || shared_->draining) {
    Linger();
    return;
  }
  parser_.Reset();
  state_ = State::kIdle;
  deadline_.Set(shared_->options.idle_timeout);
  if (pending_.empty()) {
    WatchRead();
  } else {
    const std::string input = std::exchange(pending_, {});
    Process(input);
  }
}

}  // namespace warmpath::net
