#include "net/grpc_connection.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace warmpath::net {
namespace {

constexpr size_t kOutputBytes = 64 << 10;
constexpr size_t kKeptOutputCapacity = 16 << 10;
constexpr size_t kMaxQueuedFrames = 1'000;
constexpr size_t kMaxUnansweredPings = 2;
constexpr Duration kLingerTime = std::chrono::seconds(2);

}  // namespace

void GrpcShared::RemoveStream() {
  if (--streams == 0 && stopping) {
    MutexLock lock(mutex);
    changed.NotifyAll();
  }
}

GrpcConnection::GrpcConnection(Loop& loop, TcpSocket socket, std::string peer,
                               std::shared_ptr<GrpcShared> shared, std::function<void()> gone)
    : loop_(loop),
      socket_(std::move(socket)),
      peer_(std::move(peer)),
      shared_(std::move(shared)),
      gone_(std::move(gone)),
      tls_(shared_->options.tls ? shared_->options.tls->NewSession("") : nullptr),
      session_(*this, shared_->options, shared_->service, shared_->held_bytes),
      idle_deadline_(loop.impl().wheel, [this] { IdleExpired(); }),
      write_deadline_(loop.impl().wheel, [this] { Shut(); }),
      stream_deadline_(loop.impl().wheel, [this] {
        stream_deadline_at_ = TimePoint::max();
        in_turn_ = true;
        session_.Tick();
        in_turn_ = false;
        Flush();
      }) {}

GrpcConnection::~GrpcConnection() {
  WP_DCHECK(state_ == State::kClosed);
}

void GrpcConnection::Start() {
  idle_deadline_.Set(shared_->options.handshake_timeout);
  WatchRead();
  // Our SETTINGS; with TLS they wait for the handshake.
  Flush();
}

// ---- reading

void GrpcConnection::WatchRead() {
  if (watching_read_ || state_ == State::kClosed) return;
  watching_read_ = true;
  socket_.async_wait(TcpSocket::wait_read, [self = shared_from_this()](const error_code& error) {
    self->watching_read_ = false;
    if (!error && self->state_ != State::kClosed) self->OnReadable();
  });
}

void GrpcConnection::OnReadable() {
  auto& scratch = loop_.impl().scratch;
  error_code error;
  const size_t size = socket_.read_some(asio::buffer(scratch), error);
  if (error == asio::error::would_block || error == asio::error::interrupted) {
    WatchRead();
    return;
  }
  if (error) {
    Shut();
    return;
  }
  if (state_ == State::kLinger || ending_) {
    WatchRead();
    return;
  }
  in_turn_ = true;
  const bool goes_on = tls_ ? ReceiveTls({scratch.data(), size}) : Receive({scratch.data(), size});
  in_turn_ = false;
  if (!goes_on) ending_ = true;
  Flush();
  if (state_ == State::kClosed) return;
  // A peer that sends and does not read gets no more answers queued.
  if (watching_write_ && session_.queued_frames() > kMaxQueuedFrames) return;
  WatchRead();
}

bool GrpcConnection::ReceiveTls(std::string_view bytes) {
  plain_in_.clear();
  const Status fed = tls_->Feed(bytes, plain_in_);
  if (!plain_in_.empty() && !Receive(plain_in_)) return false;
  if (plain_in_.capacity() > kKeptOutputCapacity && session_.streams() == 0) {
    plain_in_ = std::string();
  }
  if (!fed) {
    FailWith(fed.error().message);
    return false;
  }
  if (tls_->established() && !tls_->protocol().empty() && tls_->protocol() != "h2") {
    FailWith("the peer does not speak HTTP/2");
    return false;
  }
  return !tls_->peer_closed();
}

bool GrpcConnection::Receive(std::string_view bytes) {
  const bool began = session_.settings_received();
  const Status received = session_.Receive(bytes);
  if (!received) {
    FailWith(received.error().message);
    return false;
  }
  if (session_.settings_received()) {
    last_read_ = Now();
    if (!began) idle_deadline_.Set(shared_->options.ping_interval);
  }
  return true;
}

void GrpcConnection::FailWith(std::string_view reason) {
  WP_LOG(kVerbose, "net", "gRPC connection ended", {"peer", peer_}, {"reason", reason});
}

// ---- writing

void GrpcConnection::OnWork() {
  if (in_turn_ || flush_scheduled_ || watching_write_ || state_ != State::kOpen) return;
  flush_scheduled_ = true;
  loop_.impl().reactor.Defer([self = shared_from_this()] {
    self->flush_scheduled_ = false;
    self->Flush();
  });
}

void GrpcConnection::WatchWrite() {
  if (watching_write_) return;
  watching_write_ = true;
  socket_.async_wait(TcpSocket::wait_write, [self = shared_from_this()](const error_code& error) {
    self->watching_write_ = false;
    if (error) return;
    self->Flush();
    if (self->state_ != State::kClosed) self->WatchRead();
  });
}

void GrpcConnection::Fill() {
  if (!tls_) {
    session_.Produce(out_, sent_ + kOutputBytes);
    return;
  }
  if (tls_->established() || !session_.settings_received()) {
    plain_out_.clear();
    session_.Produce(plain_out_, kOutputBytes);
    if (!plain_out_.empty() && !tls_->Write(plain_out_)) ending_ = true;
    if (plain_out_.capacity() > kKeptOutputCapacity) plain_out_ = std::string();
  }
  tls_->TakeOutput(out_);
}

void GrpcConnection::Flush() {
  if (state_ != State::kOpen) return;
  if (watching_write_) {
    // Deadlines of streams pass all the same.
    ArmStreamDeadline();
    return;
  }
  const auto self = shared_from_this();
  in_turn_ = true;
  while (true) {
    if (queued() < kOutputBytes) Fill();
    if (state_ != State::kOpen || queued() == 0) break;
    error_code error;
    const size_t size = socket_.write_some(asio::buffer(out_.data() + sent_, queued()), error);
    if (error == asio::error::would_block || error == asio::error::interrupted) {
      if (!write_deadline_.set()) write_deadline_.Set(shared_->options.write_timeout);
      WatchWrite();
      break;
    }
    if (error) {
      in_turn_ = false;
      Shut();
      return;
    }
    sent_ += size;
    write_deadline_.Clear();
    if (queued() == 0) {
      const bool was_full = out_.size() >= kOutputBytes;
      out_.clear();
      sent_ = 0;
      if (!was_full) break;  // Produce had no more
    } else {
      out_.erase(0, std::exchange(sent_, 0));
    }
  }
  in_turn_ = false;
  if (queued() == 0 && out_.capacity() > kKeptOutputCapacity) out_ = std::string();
  if (state_ != State::kOpen) return;
  ArmStreamDeadline();
  if (queued() == 0 && (ending_ || session_.finished())) EndAfterOutput();
}

void GrpcConnection::ArmStreamDeadline() {
  const std::optional<TimePoint> next = session_.next_deadline();
  if (!next || *next >= stream_deadline_at_) return;
  stream_deadline_at_ = *next;
  stream_deadline_.Set(std::max(Duration::zero(), *next - Now()));
}

// ---- ending

void GrpcConnection::EndAfterOutput() {
  const auto self = shared_from_this();
  in_turn_ = true;
  session_.Close();
  in_turn_ = false;
  if (state_ != State::kOpen) return;
  if (tls_) {
    tls_->Close();
    tls_->TakeOutput(out_);
    error_code ignored;
    if (queued() > 0) socket_.write_some(asio::buffer(out_.data() + sent_, queued()), ignored);
  }
  // Closing with unread input would reset the connection and could take the last frames with it.
  state_ = State::kLinger;
  error_code ignored;
  socket_.shutdown(TcpSocket::shutdown_send, ignored);
  stream_deadline_.Clear();
  idle_deadline_.Set(kLingerTime);
  WatchRead();
}

void GrpcConnection::IdleExpired() {
  const auto self = shared_from_this();
  if (state_ != State::kOpen || !session_.settings_received()) {
    Shut();
    return;
  }
  const Duration interval = shared_->options.ping_interval;
  const Duration idle = Now() - last_read_;
  if (idle < interval) {
    idle_deadline_.Set(interval - idle);
    return;
  }
  if (session_.unanswered_pings() >= kMaxUnansweredPings) {
    Shut();
    return;
  }
  session_.Ping();
  idle_deadline_.Set(interval);
}

void GrpcConnection::Drain() {
  if (state_ == State::kOpen) session_.Drain();
}

void GrpcConnection::Close() {
  if (state_ == State::kOpen) {
    const auto self = shared_from_this();
    in_turn_ = true;
    session_.Close();
    in_turn_ = false;
    Flush();
  }
  Shut();
}

void GrpcConnection::Shut() {
  if (state_ == State::kClosed) return;
  const auto self = shared_from_this();
  state_ = State::kClosed;
  idle_deadline_.Clear();
  write_deadline_.Clear();
  stream_deadline_.Clear();
  session_.Close();
  error_code ignored;
  socket_.close(ignored);
  if (const auto gone = std::exchange(gone_, nullptr)) gone();
  out_ = std::string();
  sent_ = 0;
}

}  // namespace warmpath::net
