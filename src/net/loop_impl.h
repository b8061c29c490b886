// Internal to net: what a Loop is made of, and the Asio types all of net uses.
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "net/deadline_wheel.h"
#include "net/loop.h"

namespace warmpath::net {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

// The concrete executor: no type erasure per operation.
using IoExecutor = asio::io_context::executor_type;
using TcpSocket = asio::basic_stream_socket<tcp, IoExecutor>;
using TcpAcceptor = asio::basic_socket_acceptor<tcp, IoExecutor>;
using SteadyTimer =
    asio::basic_waitable_timer<std::chrono::steady_clock,
                               asio::wait_traits<std::chrono::steady_clock>, IoExecutor>;

struct TimerState;

// Exact timers of one loop behind a single Asio timer. Shared with the handles, so that a handle
// may outlive its loop.
class TimerQueue : public std::enable_shared_from_this<TimerQueue> {
 public:
  using Entries = std::multimap<TimePoint, std::shared_ptr<TimerState>>;

  explicit TimerQueue(asio::io_context& io) : timer_(std::in_place, io.get_executor()) {}
  std::shared_ptr<TimerState> Add(Duration delay, Duration period, std::function<void()> fire);
  void Remove(TimerState& state);
  void Shutdown();  // before the io_context goes

 private:
  void Arm();
  void FireDue();

  std::optional<SteadyTimer> timer_;
  TimePoint armed_for_ = TimePoint::max();
  Entries entries_;
};

struct TimerState {
  std::weak_ptr<TimerQueue> queue;
  TimerQueue::Entries::iterator at;
  bool queued = false;
  bool cancelled = false;
  Duration period{};
  std::function<void()> fire;
};

struct Loop::Impl {
  explicit Impl(std::string loop_name);
  ~Impl();

  void RunPosted() EXCLUDES(mutex);
  void TurnWheel();

  const std::string name;
  DeadlineWheel wheel;  // before io: operations under way own deadlines
  asio::io_context io{1};
  std::optional<asio::executor_work_guard<IoExecutor>> work;
  std::shared_ptr<TimerQueue> timers;
  std::optional<SteadyTimer> wheel_timer;
  // What a socket's bytes are read into; valid until the handler that read them returns.
  std::array<char, 64 << 10> scratch;
  std::string plaintext;  // of ciphertext in scratch; valid as long

  enum class State { kNew, kRunning, kStopped };
  std::atomic<State> state{State::kNew};
  std::thread thread;
  std::atomic<std::thread::id> thread_id{};

  Mutex mutex;
  std::vector<std::function<void()>> posted GUARDED_BY(mutex);
  bool wake_pending GUARDED_BY(mutex) = false;
  bool closed GUARDED_BY(mutex) = false;
};

}  // namespace warmpath::net
