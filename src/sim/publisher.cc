#include "sim/publisher.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#include <cerrno>
#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "base/mutex.h"

namespace warmpath::sim {
namespace {

struct Queued {
  size_t stream = 0;
  std::string payload;
  uint64_t lost_before = 0;  // sequence numbers that are consumed without a message
};

struct Stream {
  Publisher::StreamOptions options;
  void* pub = nullptr;
  void* router = nullptr;
  uint64_t next_sequence = 0;
  std::deque<std::pair<uint64_t, std::string>> kept;  // for replay
};

// `tcp://*:0` and `tcp://127.0.0.1:0` let ZMQ pick.
std::string BindAddress(const std::string& endpoint) {
  if (endpoint.starts_with("tcp://") && endpoint.ends_with(":0")) {
    return endpoint.substr(0, endpoint.size() - 1) + "*";
  }
  return endpoint;
}

bool MustBind(const std::string& endpoint) {
  return endpoint.find('*') != std::string::npos || endpoint.find("::") != std::string::npos ||
         endpoint.starts_with("ipc://") || endpoint.starts_with("inproc://") ||
         endpoint.ends_with(":0");
}

std::string LastEndpoint(void* socket) {
  char buffer[512];
  size_t size = sizeof(buffer);
  if (zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, buffer, &size) != 0 || size == 0) return "";
  return std::string(buffer, size - 1);
}

void SetInt(void* socket, int option, int value) {
  WP_CHECK(zmq_setsockopt(socket, option, &value, sizeof(value)) == 0);
}

bool SendFrames(void* socket, std::span<const std::string> frames, int flags) {
  for (size_t i = 0; i < frames.size(); ++i) {
    const int more = i + 1 < frames.size() ? ZMQ_SNDMORE : 0;
    if (zmq_send(socket, frames[i].data(), frames[i].size(), flags | more) < 0) return false;
  }
  return true;
}

}  // namespace

struct Publisher::Impl {
  void* context = zmq_ctx_new();
  int wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  std::vector<Stream> streams;  // the thread's own once started
  std::thread thread;

  Mutex mutex;
  std::vector<Queued> queue GUARDED_BY(mutex);
  std::vector<size_t> queued_per_stream GUARDED_BY(mutex);
  std::vector<size_t> queue_limits GUARDED_BY(mutex);
  std::vector<uint64_t> lost GUARDED_BY(mutex);
  bool stopping GUARDED_BY(mutex) = false;

  void Run();
  bool Drain();
  void Send(Queued& item);
  void AnswerReplay(Stream& stream);
  void Wake() const {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(wake, &one, sizeof(one));
  }
};

Publisher::Publisher() : impl_(std::make_unique<Impl>()) {
  zmq_ctx_set(impl_->context, ZMQ_MAX_SOCKETS, 4096);
}

Publisher::~Publisher() {
  Stop();
  for (Stream& stream : impl_->streams) {
    if (stream.pub != nullptr) zmq_close(stream.pub);
    if (stream.router != nullptr) zmq_close(stream.router);
  }
  zmq_ctx_term(impl_->context);
  close(impl_->wake);
}

Result<Publisher::StreamAddress> Publisher::AddStream(const StreamOptions& options) {
  WP_CHECK(!impl_->thread.joinable());
  Stream stream;
  stream.options = options;
  stream.next_sequence = options.first_sequence;
  auto open = [&](int type, const std::string& endpoint, bool bind,
                  void*& socket) -> Result<std::string> {
    socket = zmq_socket(impl_->context, type);
    if (socket == nullptr)
      return Fail(Code::kInternal, fmt::format("zmq socket: {}", zmq_strerror(errno)));
    SetInt(socket, ZMQ_LINGER, 200);
    SetInt(socket, ZMQ_IPV6, endpoint.find("::") != std::string::npos ? 1 : 0);
    SetInt(socket, ZMQ_SNDHWM,
           static_cast<int>(type == ZMQ_PUB ? options.hwm : 2 * (options.buffer_steps + 1)));
    const std::string address = BindAddress(endpoint);
    const int rc = bind ? zmq_bind(socket, address.c_str()) : zmq_connect(socket, address.c_str());
    if (rc != 0) {
      const int error = errno;
      zmq_close(socket);
      socket = nullptr;
      return Fail(Code::kUnavailable, fmt::format("{} {}: {}", bind ? "binding" : "connecting to",
                                                  endpoint, zmq_strerror(error)));
    }
    return bind ? LastEndpoint(socket) : endpoint;
  };
  StreamAddress address;
  WP_TRY(address.events, open(ZMQ_PUB, options.endpoint, MustBind(options.endpoint), stream.pub));
  if (!options.replay_endpoint.empty()) {
    auto replay = open(ZMQ_ROUTER, options.replay_endpoint, true, stream.router);
    if (!replay) {
      zmq_close(stream.pub);
      return tl::unexpected(replay.error());
    }
    address.replay = *replay;
  }
  impl_->streams.push_back(std::move(stream));
  MutexLock lock(impl_->mutex);
  impl_->queued_per_stream.push_back(0);
  impl_->queue_limits.push_back(options.max_queue_size);
  impl_->lost.push_back(0);
  return address;
}

void Publisher::Start() {
  impl_->thread = std::thread([impl = impl_.get()] { impl->Run(); });
}

void Publisher::Publish(size_t stream, std::string payload) {
  {
    MutexLock lock(impl_->mutex);
    if (impl_->stopping) return;
    if (impl_->queued_per_stream[stream] >= impl_->queue_limits[stream]) {
      ++impl_->lost[stream];
      return;
    }
    ++impl_->queued_per_stream[stream];
    impl_->queue.push_back({stream, std::move(payload), std::exchange(impl_->lost[stream], 0)});
  }
  impl_->Wake();
}

void Publisher::Stop() {
  if (!impl_->thread.joinable()) return;
  {
    MutexLock lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->Wake();
  impl_->thread.join();
}

void Publisher::Impl::Run() {
  std::vector<zmq_pollitem_t> items;
  items.push_back({nullptr, wake, ZMQ_POLLIN, 0});
  std::vector<size_t> router_of;
  for (size_t i = 0; i < streams.size(); ++i) {
    if (streams[i].router == nullptr) continue;
    items.push_back({streams[i].router, 0, ZMQ_POLLIN, 0});
    router_of.push_back(i);
  }
  while (true) {
    if (zmq_poll(items.data(), static_cast<int>(items.size()), -1) < 0 && errno != EINTR) return;
    if ((items[0].revents & ZMQ_POLLIN) != 0) {
      uint64_t count = 0;
      [[maybe_unused]] const ssize_t got = read(wake, &count, sizeof(count));
    }
    if (!Drain()) return;
    for (size_t i = 1; i < items.size(); ++i) {
      if ((items[i].revents & ZMQ_POLLIN) != 0) AnswerReplay(streams[router_of[i - 1]]);
    }
  }
}

bool Publisher::Impl::Drain() {
  std::vector<Queued> work;
  bool stop = false;
  {
    MutexLock lock(mutex);
    work.swap(queue);
    for (size_t& count : queued_per_stream) count = 0;
    stop = stopping;
  }
  for (Queued& item : work) Send(item);
  return !stop;
}

void Publisher::Impl::Send(Queued& item) {
  Stream& stream = streams[item.stream];
  if (item.lost_before > 0) {
    stream.next_sequence += item.lost_before;
    WP_LOG(kWarn, "sim", "event queue full: batches lost", {"batches", item.lost_before});
  }
  const uint64_t sequence = stream.next_sequence++;
  SendFrames(stream.pub, kv::LiveFrames(stream.options.topic, sequence, item.payload),
             ZMQ_DONTWAIT);
  if (stream.router == nullptr || stream.options.buffer_steps == 0) return;
  stream.kept.emplace_back(sequence, std::move(item.payload));
  if (stream.kept.size() > stream.options.buffer_steps) stream.kept.pop_front();
}

void Publisher::Impl::AnswerReplay(Stream& stream) {
  for (int requests = 0; requests < 16; ++requests) {
    std::vector<std::string> frames;
    int more = 1;
    while (more != 0) {
      zmq_msg_t message;
      zmq_msg_init(&message);
      if (zmq_msg_recv(&message, stream.router, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(&message);
        return;
      }
      frames.emplace_back(static_cast<const char*>(zmq_msg_data(&message)), zmq_msg_size(&message));
      more = zmq_msg_more(&message);
      zmq_msg_close(&message);
    }
    const std::vector<std::string_view> views(frames.begin(), frames.end());
    const auto start = kv::ParseReplayRequest(views);
    if (!start) continue;  // ignored, as the engine does
    auto reply = [&](std::vector<std::string> parts) {
      parts.insert(parts.begin(), frames[0]);
      return SendFrames(stream.router, parts, ZMQ_DONTWAIT);
    };
    for (const auto& [sequence, payload] : stream.kept) {
      if (sequence < *start) continue;
      if (!reply(kv::ReplayBatchFrames(stream.options.framing, stream.options.topic, sequence,
                                       payload)))
        break;
    }
    reply(kv::ReplayEndFrames(stream.options.framing));
  }
}

}  // namespace warmpath::sim
