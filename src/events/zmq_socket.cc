#include "events/zmq_socket.h"

#include <fmt/format.h>

#include <cstring>

#include "base/units.h"

namespace warmpath::events {

namespace {

tl::unexpected<Error> ZmqError(std::string_view doing) {
  return Fail(Code::kUnavailable, fmt::format("{}: {}", doing, zmq_strerror(zmq_errno())));
}

void SetInt(void* socket, int option, int value) {
  zmq_setsockopt(socket, option, &value, sizeof value);
}

}  // namespace

ZmqMessage::ZmqMessage() {
  for (auto& message : messages_) zmq_msg_init(&message);
}

ZmqMessage::~ZmqMessage() {
  for (auto& message : messages_) zmq_msg_close(&message);
}

std::string ZmqMessage::peer_address() const {
  if (count_ == 0) return "";
  const char* address = zmq_msg_gets(&messages_[0], "Peer-Address");
  return address == nullptr ? "" : address;
}

int ZmqMessage::connection() const {
  return count_ == 0 ? -1 : zmq_msg_get(&messages_[0], ZMQ_SRCFD);
}

ZmqSocket& ZmqSocket::operator=(ZmqSocket&& other) noexcept {
  std::swap(handle_, other.handle_);
  return *this;
}

Result<ZmqSocket> ZmqSocket::Open(void* context, int type, const ZmqLimits& limits) {
  void* handle = zmq_socket(context, type);
  if (handle == nullptr) return ZmqError("opening a ZMQ socket");
  SetInt(handle, ZMQ_LINGER, 0);
  SetInt(handle, ZMQ_IPV6, 1);
  SetInt(handle, ZMQ_RCVHWM, limits.receive_high_water);
  SetInt(handle, ZMQ_HEARTBEAT_IVL, 5000);
  SetInt(handle, ZMQ_HEARTBEAT_TIMEOUT, 15000);
  SetInt(handle, ZMQ_CONNECT_TIMEOUT, 5000);
  SetInt(handle, ZMQ_RECONNECT_IVL, 100);
  // Short: what an engine publishes before the subscription stands is lost without replay.
  SetInt(handle, ZMQ_RECONNECT_IVL_MAX, 500);
  SetInt(handle, ZMQ_TCP_KEEPALIVE, 1);
  zmq_setsockopt(handle, ZMQ_MAXMSGSIZE, &limits.max_message_bytes,
                 sizeof limits.max_message_bytes);
  return ZmqSocket(handle);
}

Status ZmqSocket::Connect(const std::string& address) {
  if (zmq_connect(handle_, address.c_str()) != 0) return ZmqError("connecting to " + address);
  return {};
}

Status ZmqSocket::Bind(const std::string& address) {
  if (zmq_bind(handle_, address.c_str()) != 0) return ZmqError("binding " + address);
  return {};
}

Status ZmqSocket::Subscribe(std::string_view prefix) {
  if (zmq_setsockopt(handle_, ZMQ_SUBSCRIBE, prefix.data(), prefix.size()) != 0)
    return ZmqError("subscribing");
  return {};
}

Result<ZmqSocket> ZmqSocket::Monitor(void* context, const std::string& name) {
  const std::string address = "inproc://" + name;
  if (zmq_socket_monitor(handle_, address.c_str(),
                         ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED) != 0) {
    return ZmqError("watching a ZMQ socket");
  }
  void* monitor = zmq_socket(context, ZMQ_PAIR);
  if (monitor == nullptr) return ZmqError("opening a ZMQ socket");
  ZmqSocket out(monitor);
  SetInt(monitor, ZMQ_LINGER, 0);
  SetInt(monitor, ZMQ_RCVHWM, 0);  // a full queue would hold ZMQ's I/O thread
  WP_RETURN_IF_ERROR(out.Connect(address));
  return out;
}

void ZmqSocket::StopMonitor() {
  if (handle_ != nullptr) zmq_socket_monitor(handle_, nullptr, 0);
}

uint16_t ZmqSocket::bound_port() const {
  char endpoint[256];
  size_t size = sizeof endpoint;
  if (zmq_getsockopt(handle_, ZMQ_LAST_ENDPOINT, endpoint, &size) != 0) return 0;
  const std::string_view text(endpoint);
  const auto port = ParseInt(text.substr(text.rfind(':') + 1));
  return port ? static_cast<uint16_t>(*port) : 0;
}

int ZmqSocket::descriptor() const {
  int descriptor = -1;
  size_t size = sizeof descriptor;
  zmq_getsockopt(handle_, ZMQ_FD, &descriptor, &size);
  return descriptor;
}

bool ZmqSocket::Receive(ZmqMessage& message) {
  message.count_ = 0;
  message.overlong_ = false;
  zmq_msg_t rest;
  for (bool more = true; more;) {
    const bool keep = message.count_ < ZmqMessage::kMax;
    zmq_msg_t* part = keep ? &message.messages_[message.count_] : &rest;
    if (!keep) zmq_msg_init(part);
    if (zmq_msg_recv(part, handle_, ZMQ_DONTWAIT) < 0) {
      if (!keep) zmq_msg_close(part);
      return false;  // the parts of a message arrive together: only the first can be missing
    }
    more = zmq_msg_more(part) != 0;
    if (keep) {
      message.views_[message.count_++] = {static_cast<const char*>(zmq_msg_data(part)),
                                          zmq_msg_size(part)};
    } else {
      message.overlong_ = true;
      zmq_msg_close(part);
    }
  }
  return true;
}

bool ZmqSocket::Send(std::span<const std::string> frames) {
  for (size_t i = 0; i < frames.size(); ++i) {
    const int more = i + 1 < frames.size() ? ZMQ_SNDMORE : 0;
    if (zmq_send(handle_, frames[i].data(), frames[i].size(), more | ZMQ_DONTWAIT) < 0)
      return false;
  }
  return true;
}

void ZmqSocket::Close() {
  if (handle_ != nullptr) zmq_close(handle_);
  handle_ = nullptr;
}

MonitorEvent NextMonitorEvent(ZmqSocket& monitor, int* connection) {
  ZmqMessage message;
  while (monitor.Receive(message)) {
    uint16_t event = 0;
    int32_t value = 0;
    if (message.frames().empty() || message.frames()[0].size() < sizeof event + sizeof value)
      continue;
    std::memcpy(&event, message.frames()[0].data(), sizeof event);
    std::memcpy(&value, message.frames()[0].data() + sizeof event, sizeof value);
    if (connection != nullptr) *connection = value;
    if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) return MonitorEvent::kConnected;
    if (event == ZMQ_EVENT_DISCONNECTED) return MonitorEvent::kDisconnected;
  }
  return MonitorEvent::kNone;
}

}  // namespace warmpath::events
