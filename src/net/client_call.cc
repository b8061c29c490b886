#include "net/client_call.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <utility>

#include "base/check.h"
#include "net/http1_writer.h"

namespace warmpath::net {
namespace {

constexpr size_t kMaxResponseHeaders = 256;

bool IsSendable(const HttpRequest& request) {
  return IsToken(request.method) && request.target.starts_with('/') &&
         std::all_of(request.target.begin(), request.target.end(),
                     [](char c) { return c > ' ' && c <= '~'; });
}

}  // namespace

ClientShared::ClientShared(Loop& owner, HttpClientOptions client_options)
    : loop(owner),
      options(std::move(client_options)),
      pool(options.idle_pool_timeout, options.max_idle_per_host) {}

Result<std::shared_ptr<TlsContext>> ClientShared::Tls() const {
  if (options.tls) return options.tls;
  // The system's authorities are read once per process.
  static const Result<std::shared_ptr<TlsContext>> system =
      TlsContext::Client({.alpn = {"http/1.1"}});
  return system;
}

ClientCall::ClientCall(std::shared_ptr<ClientShared> shared, const Url& url, HttpRequest request,
                       CallOptions options, CallHandlers handlers)
    : shared_(std::move(shared)),
      address_(url.address),
      tls_(url.tls),
      host_(url.address.ToString()),
      pool_key_(url.tls ? "https://" + host_ : host_),
      options_(std::move(options)),
      handlers_(std::move(handlers)),
      answers_head_(request.method == "HEAD"),
      deadline_(shared_->loop.impl().wheel, [this] { Expired(); }),
      parser_(Http1Parser::ForResponses({.max_head_bytes = shared_->options.max_head_bytes,
                                         .max_headers = kMaxResponseHeaders})) {
  if (!IsSendable(request)) invalid_ = "the request's method or target is malformed";
  std::optional<uint64_t> length;
  if (options_.streamed_body) {
    body_ = std::make_shared<const std::string>();
    length = options_.streamed_body->length;
    upload_.emplace();
    upload_->chunked = !length;
    upload_->left = length.value_or(0);
  } else {
    // Whoever shares it sees by its use count that it was let go.
    body_ = options_.shared_body ? std::move(options_.shared_body)
                                 : std::make_shared<const std::string>(std::move(request.body));
    length = body_->size();
  }
  AppendRequestHead(head_, request, length, url.base_path, host_);
}

ClientCall::~ClientCall() {
  WP_DCHECK(phase_ == Phase::kDone);
}

void ClientCall::Start() {
  place_ = shared_->calls.size();
  shared_->calls.push_back(shared_from_this());
  shared_->loop.impl().reactor.Defer([self = shared_from_this()] {
    if (self->phase_ != Phase::kDone) self->Begin();
  });
}

void ClientCall::Cancel() {
  if (phase_ == Phase::kDone) return;
  const auto self = shared_from_this();
  Detach();
  handlers_ = {};
}

void ClientCall::Pause() {
  paused_ = true;
  if (phase_ == Phase::kBody) deadline_.Clear();
}

void ClientCall::Resume() {
  if (!std::exchange(paused_, false) || phase_ == Phase::kDone) return;
  shared_->loop.impl().reactor.Defer([self = shared_from_this()] {
    if (self->paused_ || self->phase_ == Phase::kDone || self->parsing_) return;
    if (self->phase_ == Phase::kBody) self->deadline_.Set(self->options_.idle_timeout);
    const std::string input = std::exchange(self->leftover_, {});
    self->Parse(input);
  });
}

// ---- connecting

void ClientCall::Begin() {
  if (!invalid_.empty()) {
    FailCall(CallFailure::kProtocol, Code::kInvalidArgument, invalid_);
  } else if ((socket_ = shared_->pool.Take(pool_key_))) {
    OnConnected(/*reused=*/true);
  } else {
    ConnectNew();
  }
}

void ClientCall::ConnectNew() {
  phase_ = Phase::kConnecting;
  deadline_.Set(shared_->options.connect_timeout);
  candidates_.clear();
  next_candidate_ = 0;
  error_code not_an_ip;
  const auto ip = asio::ip::make_address(address_.host, not_an_ip);
  if (not_an_ip) {
    Resolve();
    return;
  }
  candidates_.emplace_back(ip, address_.port);
  TryConnect();
}

void ClientCall::Resolve() {
  std::weak_ptr<ClientCall> weak = weak_from_this();
  shared_->loop.impl().resolver.Resolve(
      address_, weak,
      [weak, loop = &shared_->loop](const error_code& error, Resolver::Endpoints found) {
        loop->Post([weak, error, found = std::move(found)]() mutable {
          const auto self = weak.lock();
          if (self && self->phase_ != Phase::kDone) self->OnResolved(error, std::move(found));
        });
      });
}

void ClientCall::OnResolved(const error_code& error, Resolver::Endpoints found) {
  if (error) {
    FailCall(CallFailure::kConnect, Code::kUnavailable,
             fmt::format("cannot resolve {}: {}", address_.host, error.message()));
    return;
  }
  candidates_ = std::move(found);
  TryConnect();
}

void ClientCall::TryConnect() {
  if (next_candidate_ == candidates_.size()) {
    FailCall(CallFailure::kConnect, Code::kUnavailable,
             fmt::format("cannot connect to {}: {}", host_, connect_error_));
    return;
  }
  socket_ = std::make_unique<ClientSocket>(shared_->loop);
  socket_->async_connect(candidates_[next_candidate_++],
                         [self = shared_from_this()](const error_code& error) {
                           if (self->phase_ != Phase::kConnecting) return;
                           if (error) {
                             self->connect_error_ = error.message();
                             self->TryConnect();
                             return;
                           }
                           self->OnSocketConnected();
                         });
}

void ClientCall::OnSocketConnected() {
  error_code ignored;
  socket_->set_option(tcp::no_delay(true), ignored);
  socket_->ProbeAfter(shared_->options.tcp_keepalive);
  if (tls_) {
    BeginTls();
  } else {
    OnConnected(/*reused=*/false);
  }
}

void ClientCall::BeginTls() {
  const auto context = shared_->Tls();
  if (!context) {
    FailCall(CallFailure::kConnect, context.error().code,
             fmt::format("TLS with {}: {}", host_, context.error().message));
    return;
  }
  socket_->tls = std::make_unique<TlsStream>((*context)->NewSession(address_.host));
  if (!socket_->tls->reason().empty()) {
    Broken(make_error_code(boost::system::errc::protocol_error));
    return;
  }
  WatchRead();
  SendMore();
}

void ClientCall::OnConnected(bool reused) {
  reused_ = reused;
  phase_ = Phase::kHead;
  parser_.Reset(answers_head_);
  head_sent_ = body_sent_ = 0;
  send_failed_ = false;
  deadline_.Set(options_.head_timeout);
  WatchRead();
  SendMore();
}

// ---- sending

void ClientCall::SendMore() {
  if (watching_write_) return;
  TlsStream* const tls = socket_->tls.get();
  const bool sends_request = phase_ == Phase::kHead || phase_ == Phase::kBody;
  for (;;) {
    std::string_view head, body;
    if (sends_request && !send_failed_) {
      head = std::string_view(head_).substr(head_sent_);
      body = BodyLeft();
    }
    if (head.empty() && body.empty() && !(tls && tls->has_output())) break;
    error_code error;
    const size_t size =
        tls ? tls->WriteSome(*socket_, head, body, error) : socket_->write_some(head, body, error);
    if (error == asio::error::would_block || error == asio::error::interrupted) {
      watching_write_ = true;
      socket_->async_wait(TcpSocket::wait_write,
                          [self = shared_from_this(), socket = socket_.get()](const error_code& e) {
                            // The socket may have been replaced meanwhile.
                            if (self->socket_.get() != socket) return;
                            self->watching_write_ = false;
                            if (!e) self->SendMore();
                          });
      return;
    }
    if (error) {
      // The peer may have answered before it stopped reading: reading tells.
      send_failed_ = true;
      return;
    }
    const size_t of_head = std::min(size, head.size());
    head_sent_ += of_head;
    body_sent_ += size - of_head;
    if (upload_) OnSent();
  }
}

std::string_view ClientCall::BodyLeft() const {
  if (upload_) return std::string_view(upload_->bytes).substr(body_sent_);
  return body_ ? std::string_view(*body_).substr(body_sent_) : std::string_view();
}

bool ClientCall::SentAll() const {
  if (sent_all_) return true;
  return head_sent_ == head_.size() && BodyLeft().empty() && !send_failed_ &&
         (!upload_ || upload_->ended);
}

// ---- a streamed body

size_t ClientCall::Write(std::string_view bytes) {
  if (phase_ == Phase::kDone || !upload_ || upload_->ended || send_failed_) return 0;
  if (upload_->chunked) {
    if (!bytes.empty()) AppendChunk(upload_->bytes, bytes);
  } else {
    bytes = bytes.substr(0, static_cast<size_t>(std::min<uint64_t>(bytes.size(), upload_->left)));
    upload_->left -= bytes.size();
    upload_->bytes.append(bytes);
  }
  return PushUpload();
}

void ClientCall::End() {
  if (phase_ == Phase::kDone || !upload_ || upload_->ended || send_failed_) return;
  upload_->ended = true;
  if (upload_->chunked) AppendLastChunk(upload_->bytes);
  PushUpload();
}

size_t ClientCall::PushUpload() {
  if (phase_ == Phase::kHead || phase_ == Phase::kBody) SendMore();
  const size_t left = BodyLeft().size();
  if (left > kUploadHighWater) upload_->over_high_water = true;
  return left;
}

void ClientCall::OnSent() {
  const bool may_be_sent_again = reused_ && !replaced_ && !got_bytes_ && !upload_->dropped &&
                                 upload_->bytes.size() <= kUploadHighWater;
  if (!may_be_sent_again && body_sent_ > 0) {
    upload_->dropped = true;
    if (body_sent_ == upload_->bytes.size()) {
      upload_->bytes.clear();
      body_sent_ = 0;
    } else if (body_sent_ > kUploadHighWater) {
      upload_->bytes.erase(0, body_sent_);
      body_sent_ = 0;
    }
  }
  if (upload_->over_high_water && BodyLeft().size() <= kUploadHighWater / 2) {
    upload_->over_high_water = false;
    shared_->loop.impl().reactor.Defer([self = shared_from_this()] {
      if (self->phase_ != Phase::kDone && self->handlers_.on_drain) {
        const auto on_drain = self->handlers_.on_drain;
        on_drain();
      }
    });
  }
}

// ---- reading

void ClientCall::WatchRead() {
  if (watching_read_ || paused_) return;
  watching_read_ = true;
  if (socket_->tls && socket_->tls->peer_closed()) {
    // The end is in the session: the socket need not show it.
    shared_->loop.impl().reactor.Defer([self = shared_from_this(), socket = socket_.get()] {
      if (self->socket_.get() != socket) return;
      self->watching_read_ = false;
      if (!self->paused_) self->OnReadable();
    });
    return;
  }
  socket_->async_wait(TcpSocket::wait_read,
                      [self = shared_from_this(), socket = socket_.get()](const error_code& error) {
                        if (self->socket_.get() != socket) return;
                        self->watching_read_ = false;
                        if (error || self->paused_) return;
                        self->OnReadable();
                      });
}

std::string_view ClientCall::Read(error_code& error) {
  auto& scratch = shared_->loop.impl().scratch;
  TlsStream* const tls = socket_->tls.get();
  if (!tls) return {scratch.data(), socket_->read_some(asio::buffer(scratch), error)};
  std::string_view plaintext;
  tls->ReadSome(shared_->loop, *socket_, plaintext, error);
  if (!error && phase_ == Phase::kConnecting && tls->established()) {
    OnConnected(/*reused=*/false);
  } else if (!error && tls->has_output()) {
    SendMore();
  }
  return plaintext;
}

void ClientCall::OnReadable() {
  error_code error;
  const std::string_view input = Read(error);
  if (error == asio::error::would_block || error == asio::error::interrupted) {
    WatchRead();
  } else if (error) {
    Broken(error);
  } else if (socket_->tls && input.empty()) {
    WatchRead();
  } else {
    got_bytes_ = true;
    if (phase_ == Phase::kBody) deadline_.Set(options_.idle_timeout);
    Parse(input);
  }
}

void ClientCall::Parse(std::string_view input) {
  const auto self = shared_from_this();
  parsing_ = true;
  while (phase_ != Phase::kDone) {
    if (paused_) {
      leftover_ = input;
      break;
    }
    switch (parser_.Next(input)) {
      case Http1Parser::Event::kHead:
        phase_ = Phase::kBody;
        if (!upload_ && SentAll()) {
          sent_all_ = true;
          DropRequest();
        }
        deadline_.Set(options_.idle_timeout);
        if (const auto on_head = std::exchange(handlers_.on_head, nullptr)) {
          on_head({parser_.status(), std::move(parser_.headers())});
        }
        break;
      case Http1Parser::Event::kBody:
        if (handlers_.on_data) {
          // Cancel inside on_data must not destroy what is running.
          auto on_data = std::move(handlers_.on_data);
          on_data(parser_.body());
          if (phase_ != Phase::kDone) handlers_.on_data = std::move(on_data);
        }
        break;
      case Http1Parser::Event::kEnd:
        // Bytes after the answer were not asked for: the connection is not used again.
        if (!input.empty()) socket_.reset();
        Complete();
        break;
      case Http1Parser::Event::kError:
        FailCall(phase_ == Phase::kHead ? CallFailure::kProtocol : CallFailure::kAfterHead,
                 Code::kUnavailable, fmt::format("answer of {}: {}", host_, parser_.error()));
        break;
      case Http1Parser::Event::kNeedMore:
        parsing_ = false;
        WatchRead();
        return;
    }
  }
  parsing_ = false;
}

void ClientCall::Broken(const error_code& error) {
  const TlsStream* const tls = socket_->tls.get();
  const std::string why = tls && !tls->reason().empty() ? tls->reason() : error.message();
  if (phase_ == Phase::kConnecting) {
    FailCall(CallFailure::kConnect, Code::kUnavailable, fmt::format("TLS with {}: {}", host_, why));
    return;
  }
  if (phase_ == Phase::kBody) {
    // With TLS only close_notify tells the end of a body from a cut connection.
    const bool ended = error == asio::error::eof && (!tls || tls->peer_closed());
    if (ended && parser_.Close() == Http1Parser::Event::kEnd) {
      socket_.reset();
      Complete();
      return;
    }
    FailCall(CallFailure::kAfterHead, Code::kUnavailable,
             fmt::format("connection to {} lost in the answer: {}", host_, why));
    return;
  }
  if (reused_ && !replaced_ && !got_bytes_ && !(upload_ && upload_->dropped)) {
    // The peer closed the idle connection as we took it.
    replaced_ = true;
    watching_read_ = watching_write_ = false;
    socket_.reset();
    ConnectNew();
    return;
  }
  FailCall(CallFailure::kBeforeHead, Code::kUnavailable,
           fmt::format("connection to {} lost before the answer: {}", host_, why));
}

// ---- ending

void ClientCall::Expired() {
  const auto self = shared_from_this();
  switch (phase_) {
    case Phase::kConnecting:
      FailCall(CallFailure::kConnect, Code::kTimeout,
               fmt::format("connecting to {} timed out", host_));
      break;
    case Phase::kHead:
      FailCall(CallFailure::kTimeout, Code::kTimeout,
               fmt::format("no answer from {} in time", host_));
      break;
    case Phase::kBody:
      FailCall(CallFailure::kAfterHead, Code::kTimeout,
               fmt::format("the answer of {} stopped", host_));
      break;
    case Phase::kDone:
      break;
  }
}

void ClientCall::Complete() {
  const bool sent_all = SentAll();
  const TlsStream* const tls = socket_ ? socket_->tls.get() : nullptr;
  const bool usable = !tls || (!tls->has_output() && !tls->peer_closed());
  if (socket_ && parser_.keep_alive() && sent_all && usable) {
    socket_->cancel();
    shared_->pool.Put(pool_key_, std::move(socket_));
  }
  const auto on_end = std::move(handlers_.on_end);
  const CallHandlers dropped = std::exchange(handlers_, {});
  Detach();
  if (on_end) on_end();
}

// What was sent may be large, and an answer may take long.
void ClientCall::DropRequest() {
  if (upload_) return;
  body_ = nullptr;
  head_ = std::string();
  head_sent_ = body_sent_ = 0;
}

void ClientCall::FailCall(CallFailure failure, Code code, const std::string& what) {
  const auto on_error = std::move(handlers_.on_error);
  const CallHandlers dropped = std::exchange(handlers_, {});
  Detach();
  if (on_error) on_error(failure, Error{code, what});
}

void ClientCall::Detach() {
  phase_ = Phase::kDone;
  deadline_.Clear();
  socket_.reset();
  leftover_ = std::string();
  DropRequest();
  auto& calls = shared_->calls;
  if (place_ >= calls.size() || calls[place_].get() != this) return;  // the client is going
  const auto self = std::exchange(calls[place_], std::move(calls.back()));
  calls.pop_back();
  if (place_ < calls.size()) calls[place_]->place_ = place_;
}

}  // namespace warmpath::net
