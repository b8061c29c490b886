// One thread of event ingestion: polls the sockets of its publishers and drives their state
// machines. The first worker also owns the bound socket.
//
// Commands (Add, Remove, SetCandidates, Unbind) may be given from any thread and run on the
// worker's; before Start they wait.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "events/bound_connections.h"
#include "events/bound_identity.h"
#include "events/publisher.h"
#include "events/zmq_socket.h"

namespace warmpath::events {

// A publisher and its sockets. Made by the manager, then confined to the worker but for
// publisher->status().
struct Slot {
  std::string events_address;  // "" for the bound socket
  std::string replay_address;
  std::unique_ptr<Publisher> publisher;
  std::optional<uint64_t> wanted_replay;  // set by the publisher, served by the worker
  ZmqSocket events, monitor, replay;
  TimePoint replay_deadline{};
  std::optional<TimePoint> redial_at;  // while not connected
  bool unread = false;                 // a socket may hold messages that nothing will tell of
};

class Worker {
 public:
  Worker(void* context, const EventsOptions& options, EventsMetrics& metrics, const Clock& clock,
         std::string name);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Before Start.
  Status Bind(const std::string& address);
  uint16_t bound_port() const { return bound_port_; }  // 0: not bound

  void Start();
  void Stop();

  void Add(std::shared_ptr<Slot> slot);
  void Remove(std::shared_ptr<Slot> slot);
  void SetCandidates(std::vector<BoundIdentity::Candidate> candidates);
  // Closes the bound socket and its connections.
  void Unbind();

 private:
  void Post(std::function<void()> command) EXCLUDES(mutex_);
  void RunCommands() EXCLUDES(mutex_);
  void Run();
  void Poll();
  void Watch(const ZmqSocket& socket, void* what);
  void Close(ZmqSocket& socket);
  void Close(ZmqSocket& socket, ZmqSocket& monitor);
  void Open(Slot& slot);
  void CloseSockets(Slot& slot);
  void CloseBound();
  void Redial(Slot& slot);
  void ReadSlot(Slot& slot);
  void ReadMonitor(Slot& slot);
  // All three: true when messages may be left over.
  bool ReadEvents(Slot& slot);
  bool ReadReplay(Slot& slot);
  void ServeReplay(Slot& slot);
  bool ReadBound();
  void ReadBoundMonitor();
  void Tick();
  void Deliver(Slot& slot, const ZmqMessage& message);

  void* const context_;
  const EventsOptions options_;
  EventsMetrics& metrics_;
  const Clock& clock_;
  const std::string name_;
  ZmqSocket bound_, bound_monitor_;
  uint16_t bound_port_ = 0;
  BoundIdentity identity_;
  BoundConnections connections_;
  std::vector<std::shared_ptr<Slot>> slots_;
  std::map<std::pair<fleet::EndpointId, uint16_t>, Slot*> bound_slots_;
  uint64_t monitors_ = 0;
  double shown_depth_ = 0;
  TimePoint next_tick_{};
  TimePoint next_sweep_{};
  uint64_t received_ = 0;     // live messages
  bool unread_ = true;        // of any slot
  bool bound_unread_ = true;  // of the bound socket
  int wake_ = -1;             // eventfd
  int epoll_ = -1;
  Mutex mutex_;
  std::vector<std::function<void()>> commands_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace warmpath::events
