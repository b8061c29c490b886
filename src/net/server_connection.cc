#include "net/server_connection.h"

#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "net/server_exchange.h"

namespace warmpath::net {
namespace {

constexpr size_t kMaxPipelinedBytes = 64 << 10;
constexpr std::string_view kLate = "the request did not arrive in time";
constexpr Duration kLingerTime = std::chrono::seconds(2);

std::string DefaultErrorBody(int status, std::string_view reason) {
  return R"({"error":{"message":)" + JsonQuote(reason) +
         R"(,"type":"invalid_request_error","param":null,"code":)" + std::to_string(status) + "}}";
}

}  // namespace

void ServerShared::AddRequest() {
  MutexLock lock(mutex);
  ++requests;
}

void ServerShared::RemoveRequest() {
  MutexLock lock(mutex);
  --requests;
  changed.NotifyAll();
}

// ---- ServerConnection: reading

ServerConnection::ServerConnection(Loop& loop, TcpSocket socket, std::string peer,
                                   std::shared_ptr<ServerShared> shared, std::function<void()> gone)
    : loop_(loop),
      socket_(std::move(socket)),
      peer_(std::move(peer)),
      shared_(std::move(shared)),
      tls_(shared_->options.tls ? std::make_unique<TlsStream>(shared_->options.tls->NewSession(""))
                                : nullptr),
      gone_(std::move(gone)),
      deadline_(loop.impl().wheel, [this] { Expired(); }),
      body_deadline_(loop.impl().wheel, [this] { BodyFailed(408, kLate); }),
      parser_(Http1Parser::ForRequests({.max_head_bytes = shared_->options.max_head_bytes,
                                        .max_headers = shared_->options.max_headers,
                                        .max_body_bytes = shared_->options.max_body_bytes})),
      body_(shared_->options) {}

ServerConnection::~ServerConnection() {
  WP_DCHECK(state_ == State::kClosed);
}

void ServerConnection::Start() {
  handshaking_ = tls_ != nullptr;
  deadline_.Set(handshaking_ ? shared_->options.head_timeout : shared_->options.idle_timeout);
  WatchRead();
}

void ServerConnection::WatchRead() {
  if (watching_read_ || state_ == State::kClosed) return;
  watching_read_ = true;
  if (tls_ && tls_->peer_closed() && state_ != State::kLinger) {
    // The end is in the session: the socket need not show it.
    loop_.impl().reactor.Defer([self = shared_from_this()] {
      self->watching_read_ = false;
      if (self->state_ != State::kClosed) self->OnReadable();
    });
    return;
  }
  socket_.async_wait(TcpSocket::wait_read, [self = shared_from_this()](const error_code& error) {
    self->watching_read_ = false;
    if (error || self->state_ == State::kClosed) return;
    self->OnReadable();
  });
}

void ServerConnection::WatchError() {
  if (watching_error_) return;
  watching_error_ = true;
  socket_.async_wait(TcpSocket::wait_error, [self = shared_from_this()](const error_code& error) {
    self->watching_error_ = false;
    if (!error && self->state_ == State::kHandling) self->PeerGone();
  });
}

// After the end of what is answered nothing is decrypted any more.
std::string_view ServerConnection::Read(error_code& error) {
  if (state_ == State::kBody && !tls_ && parser_.content_left() >= BodyBuffers::kSmallest) {
    return ReadBodyInPlace(error);
  }
  if (!tls_ || state_ == State::kLinger) {
    auto& scratch = loop_.impl().scratch;
    return {scratch.data(), socket_.read_some(asio::buffer(scratch), error)};
  }
  std::string_view plaintext;
  tls_->ReadSome(loop_, socket_, plaintext, error);
  if (tls_->has_output()) ScheduleFlush();
  if (handshaking_ && tls_->established()) {
    handshaking_ = false;
    deadline_.Set(shared_->options.idle_timeout);
  }
  return plaintext;
}

void ServerConnection::OnReadable() {
  error_code error;
  const std::string_view input = Read(error);
  if (error == asio::error::would_block || error == asio::error::interrupted) {
    WatchRead();
  } else if (error == asio::error::eof && state_ == State::kHandling && response_ended_) {
    keep_alive_ = false;  // what is queued may still be read
  } else if (error == boost::system::errc::protocol_error && tls_) {
    WP_LOG(kDebug, "net", "TLS session failed", {"peer", peer_}, {"reason", tls_->reason()});
    if (state_ == State::kIdle) {
      Linger();  // the alert tells the peer why
    } else {
      PeerGone();
    }
  } else if (error) {
    PeerGone();
  } else if (state_ == State::kLinger || (tls_ && input.empty())) {
    WatchRead();
  } else if (receiving_) {
    Receive(input);
  } else if (state_ == State::kHandling) {
    // Nothing more of a refused request is looked at.
    if (exchange_) pending_.append(input);
    if (pending_.size() < kMaxPipelinedBytes) {
      WatchRead();
    } else {
      WatchError();
    }
  } else {
    Process(input);
  }
}

void ServerConnection::Process(std::string_view input) {
  const auto self = shared_from_this();
  if (state_ == State::kIdle && !input.empty()) BeginRequest();
  while (state_ == State::kHead || state_ == State::kBody) {
    switch (parser_.Next(input)) {
      case Http1Parser::Event::kHead:
        OnHead(!input.empty());
        if (shared_->options.stream_bodies && parser_.has_content()) {
          DispatchHead(input);
          return;
        }
        break;
      case Http1Parser::Event::kBody:
        body_.Append(parser_.body(), parser_.content_left());
        break;
      case Http1Parser::Event::kEnd:
        pending_ = input;
        Dispatch();
        break;
      case Http1Parser::Event::kError:
        RefuseRequest(parser_.error_status(), parser_.error());
        break;
      case Http1Parser::Event::kNeedMore:
        if (state_ == State::kBody) {
          const Duration left = body_.Wait(request_);
          if (left <= Duration::zero()) {
            RefuseRequest(408, kLate);
            break;
          }
          deadline_.Set(left);
        }
        WatchRead();
        return;
    }
  }
  // Watched while the request is handled: the client may go away.
  if (state_ == State::kHandling) WatchRead();
}

void ServerConnection::BeginRequest() {
  state_ = State::kHead;
  shared_->AddRequest();
  counted_ = true;
  deadline_.Set(shared_->options.head_timeout);
}

void ServerConnection::EndRequest() {
  if (std::exchange(counted_, false)) shared_->RemoveRequest();
}

void ServerConnection::OnHead(bool more_input) {
  state_ = State::kBody;
  request_.method = parser_.method();
  request_.target = std::move(parser_.target());
  request_.headers = std::move(parser_.headers());
  request_.peer = peer_;
  if (!shared_->options.stream_bodies) body_.Begin(loop_.impl().bodies, parser_.content_length());
  if (parser_.expects_continue() && parser_.has_content() && !more_input) {
    out_ += "HTTP/1.1 100 Continue\r\n\r\n";
    ScheduleFlush();
  }
}

// Returns what lies behind the body, or behind its room.
std::string_view ServerConnection::ReadBodyInPlace(error_code& error) {
  const std::span<char> room = body_.Room(parser_.content_left());
  auto& scratch = loop_.impl().scratch;
  const size_t size = socket_.read_some(asio::buffer(room), asio::buffer(scratch), error);
  const size_t in_place = std::min(size, room.size());
  body_.Filled(in_place);
  parser_.SkipContent(in_place);
  return {scratch.data(), size - in_place};
}

void ServerConnection::Dispatch() {
  request_.body = body_.Take();
  HandOver(std::exchange(request_, {}));
}

void ServerConnection::DispatchHead(std::string_view input) {
  receiving_ = body_paused_ = true;  // until ReadBody
  held_ = input;
  HandOver(std::exchange(request_, {}));
  if (state_ == State::kHandling && body_paused_) WatchError();
}

void ServerConnection::HandOver(HttpRequest request) {
  state_ = State::kHandling;
  deadline_.Clear();
  keep_alive_ = parser_.keep_alive();
  no_content_ = request.method == "HEAD";
  exchange_ = std::make_shared<ServerExchange>(*this, std::move(request),
                                               shared_->options.high_water_bytes);
  const auto exchange = exchange_;
  shared_->handler(exchange);
}

// ---- ServerConnection: streamed content

void ServerConnection::Receive(std::string_view input) {
  const auto self = shared_from_this();
  feeding_ = true;
  while (receiving_) {
    if (response_ended_) {
      // Nobody wants the rest; it is read so that the client sees the answer.
      WatchRead();
      break;
    }
    if (body_paused_) {
      held_.append(input);
      WatchError();
      break;
    }
    const Http1Parser::Event event = parser_.Next(input);
    if (event == Http1Parser::Event::kBody) {
      const auto exchange = exchange_;
      exchange->BodyData(parser_.body());
    } else if (event == Http1Parser::Event::kEnd) {
      pending_ = input;
      StopReceiving();
      WatchRead();
      const auto exchange = exchange_;
      exchange->BodyEnd();
    } else if (event == Http1Parser::Event::kNeedMore) {
      body_deadline_.Set(shared_->options.body_timeout);
      WatchRead();
      break;
    } else {
      BodyFailed(parser_.error_status(), parser_.error());
    }
  }
  feeding_ = false;
}

void ServerConnection::PauseBody() {
  if (!receiving_) return;
  body_paused_ = true;
  body_deadline_.Clear();
}

void ServerConnection::ResumeBody() {
  if (!receiving_ || !std::exchange(body_paused_, false)) return;
  loop_.impl().reactor.Defer([self = shared_from_this()] {
    if (!self->receiving_ || self->body_paused_ || self->feeding_) return;
    const std::string input = std::exchange(self->held_, {});
    self->Receive(input);
  });
}

void ServerConnection::BodyFailed(int status, std::string_view reason) {
  if (!receiving_) return;
  const auto self = shared_from_this();
  if (response_begun_) {
    Shut(/*tell_exchange=*/true, /*reset=*/true);
    return;
  }
  StopReceiving();
  if (const auto exchange = std::exchange(exchange_, nullptr)) exchange->Detach(/*gone=*/true);
  RefuseRequest(status, reason);
}

void ServerConnection::StopReceiving() {
  receiving_ = body_paused_ = false;
  body_deadline_.Clear();
  held_ = std::string();
}

void ServerConnection::RefuseRequest(int status, std::string_view reason) {
  const auto& make_headers = shared_->options.error_headers;
  const Headers& received = state_ == State::kHead ? parser_.headers() : request_.headers;
  Headers headers = make_headers ? make_headers(received) : Headers();
  headers.Set("Content-Type", "application/json");
  state_ = State::kHandling;
  deadline_.Clear();
  keep_alive_ = no_content_ = false;
  request_ = {};
  body_.Drop();
  pending_.clear();
  const auto& make_body = shared_->options.error_body;
  Respond(status, headers,
          make_body ? make_body(status, reason) : DefaultErrorBody(status, reason));
}

// ---- ServerConnection: ending

void ServerConnection::Linger() {
  // Closing with unread input would reset the connection and could take the answer with it.
  state_ = State::kLinger;
  pending_ = std::string();
  deadline_.Set(kLingerTime);
  if (tls_) tls_->Close(socket_);
  Flush();  // close_notify, if it did not leave at once; then ours is the end
  WatchRead();
}

void ServerConnection::PeerGone() {
  Shut(/*tell_exchange=*/true, /*reset=*/false);
}

void ServerConnection::Close() {
  // An answer that lasts until the connection ends must not look complete.
  const bool until_close = response_begun_ && !chunked_ && !body_left_;
  Shut(/*tell_exchange=*/true, /*reset=*/until_close && !response_ended_);
}

void ServerConnection::CloseIfIdle() {
  if (state_ == State::kIdle || state_ == State::kLinger) Close();
}

void ServerConnection::Expired() {
  const auto self = shared_from_this();
  switch (state_) {
    case State::kHead:
    case State::kBody:
      RefuseRequest(408, kLate);
      break;
    case State::kHandling:
      Shut(/*tell_exchange=*/true, /*reset=*/true);
      break;
    case State::kIdle:
    case State::kLinger:
    case State::kClosed:
      Close();
      break;
  }
}

void ServerConnection::Shut(bool tell_exchange, bool reset) {
  if (state_ == State::kClosed) return;
  const auto self = shared_from_this();
  state_ = State::kClosed;
  deadline_.Clear();
  StopReceiving();
  body_.Drop();
  error_code ignored;
  if (reset) {
    socket_.set_option(asio::socket_base::linger(true, 0), ignored);
  } else if (tls_ && !unsent()) {
    tls_->Close(socket_);
  }
  socket_.close(ignored);
  EndRequest();
  if (const auto gone = std::exchange(gone_, nullptr)) gone();
  if (const auto exchange = std::exchange(exchange_, nullptr)) {
    exchange->Detach(tell_exchange && !response_ended_);
  }
  pending_ = std::string();
  out_ = std::string();
  sent_ = 0;
}

}  // namespace warmpath::net
