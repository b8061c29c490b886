// The few ZMQ calls that events need, without exceptions. Sockets are confined to one thread at a
// time.
#pragma once

#include <zmq.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace warmpath::events {

// Frames of one received message; more than kMax are read and thrown away.
class ZmqMessage {
 public:
  static constexpr size_t kMax = 6;
  ZmqMessage();
  ~ZmqMessage();
  ZmqMessage(const ZmqMessage&) = delete;
  ZmqMessage& operator=(const ZmqMessage&) = delete;

  std::span<const std::string_view> frames() const { return {views_.data(), count_}; }
  bool overlong() const { return overlong_; }
  // Address of the TCP peer, "" when unknown.
  std::string peer_address() const;
  // File descriptor of the connection it came by, -1 when unknown.
  int connection() const;

 private:
  friend class ZmqSocket;
  std::array<zmq_msg_t, kMax> messages_;
  std::array<std::string_view, kMax> views_;
  size_t count_ = 0;
  bool overlong_ = false;
};

struct ZmqLimits {
  int receive_high_water = 100'000;  // messages; 0 = no limit
  int64_t max_message_bytes = int64_t{64} << 20;
};

class ZmqSocket {
 public:
  ZmqSocket() = default;
  ~ZmqSocket() { Close(); }
  ZmqSocket(ZmqSocket&& other) noexcept : handle_(other.handle_) { other.handle_ = nullptr; }
  ZmqSocket& operator=(ZmqSocket&& other) noexcept;

  // A TCP socket with heartbeats (so a peer gone without a word is noticed), quick reconnection and
  // no lingering.
  static Result<ZmqSocket> Open(void* context, int type, const ZmqLimits& limits);
  Status Connect(const std::string& address);
  Status Bind(const std::string& address);
  Status Subscribe(std::string_view prefix);
  // A socket that reports this one's connections.
  Result<ZmqSocket> Monitor(void* context, const std::string& name);
  void StopMonitor();  // before the reporting socket is closed
  uint16_t bound_port() const;

  // False when nothing is there.
  bool Receive(ZmqMessage& message);
  // Queues all frames or nothing; false when the queue is full.
  bool Send(std::span<const std::string> frames);
  void Close();
  // Readable when something comes after everything was received; see zmq_getsockopt, ZMQ_FD.
  int descriptor() const;
  void* handle() const { return handle_; }
  explicit operator bool() const { return handle_ != nullptr; }

 private:
  explicit ZmqSocket(void* handle) : handle_(handle) {}
  void* handle_ = nullptr;
};

enum class MonitorEvent { kNone, kConnected, kDisconnected };
// The next event of a monitor socket that matters here; `connection`, if given, takes the file
// descriptor it is about.
MonitorEvent NextMonitorEvent(ZmqSocket& monitor, int* connection = nullptr);

}  // namespace warmpath::events
