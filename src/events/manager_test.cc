// The whole of event ingestion over real ZMQ sockets on loopback, against a publisher that behaves
// as an engine does.
#include "events/manager.h"

#include <gtest/gtest.h>
#include <zmq.h>

#include <atomic>
#include <cstdlib>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

#include "base/log.h"
#include "events/zmq_socket.h"
#include "kv/event_batch.h"
#include "kv/keys.h"
#include "kv/replay.h"

namespace warmpath::events {
namespace {

using namespace std::chrono_literals;

constexpr uint32_t kBlock = 2;

bool Eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + 20s;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

std::string Batch(uint32_t n, uint32_t process, uint32_t rank = 0) {
  kv::BlockStored e;
  e.hashes = {1000 * process + n};
  if (n > 0) e.parent = 1000 * process + n - 1;
  e.tokens = {process, n};
  e.block_size = kBlock;
  kv::EventBatch batch;
  batch.ts = process + n / 100.0;
  batch.rank = rank;
  batch.events = {e};
  return kv::EncodeBatch(batch);
}

// An engine's PUB socket and, when asked for, its replay ROUTER with a thread of its own.
class FakeEngine {
 public:
  FakeEngine(uint32_t process, std::string topic = "")
      : process_(process), topic_(std::move(topic)) {
    context_ = zmq_ctx_new();
    pub_ = std::move(*ZmqSocket::Open(context_, ZMQ_XPUB, {}));
  }
  ~FakeEngine() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    pub_.Close();
    router_.Close();
    zmq_ctx_term(context_);
  }
  void Bind(uint16_t port = 0) {
    ASSERT_TRUE(Eventually([&] { return TryBind(port); }));
  }
  bool TryBind(uint16_t port) { return pub_.Bind("tcp://127.0.0.1:" + Port(port)).has_value(); }
  void Connect(uint16_t port) {
    ASSERT_TRUE(pub_.Connect("tcp://127.0.0.1:" + std::to_string(port)));
  }
  void BindReplay(kv::ReplayFraming framing, uint16_t port = 0) {
    router_ = std::move(*ZmqSocket::Open(context_, ZMQ_ROUTER, {}));
    ASSERT_TRUE(
        Eventually([&] { return router_.Bind("tcp://127.0.0.1:" + Port(port)).has_value(); }));
    replay_port_ = router_.bound_port();
    thread_ = std::thread([this, framing] { ServeReplays(framing); });
  }
  // The subscription arrived: nothing published from now on is lost to it.
  void AwaitSubscriber() {
    ZmqMessage message;
    ASSERT_TRUE(Eventually([&] { return pub_.Receive(message); }));
  }
  // Batch `n`; not `live` = only the replay buffer has it, as if lost on the wire.
  void Publish(uint32_t n, bool live = true, uint32_t rank = 0) {
    const std::string payload = Batch(n, process_, rank);
    {
      std::lock_guard lock(mutex_);
      history_.emplace_back(n, payload);
    }
    if (live) ASSERT_TRUE(pub_.Send(kv::LiveFrames(topic_, n, payload)));
  }
  void Send(std::vector<std::string> frames) { ASSERT_TRUE(pub_.Send(frames)); }
  uint16_t port() const { return pub_.bound_port(); }
  uint16_t replay_port() const { return replay_port_; }

 private:
  static std::string Port(uint16_t port) { return port == 0 ? "*" : std::to_string(port); }
  void ServeReplays(kv::ReplayFraming framing) {
    while (!stop_) {
      zmq_pollitem_t item{router_.handle(), 0, ZMQ_POLLIN, 0};
      zmq_poll(&item, 1, 20);
      ZmqMessage message;
      if (!router_.Receive(message)) continue;
      const auto start = kv::ParseReplayRequest(message.frames());
      if (!start) continue;
      const std::string identity(message.frames()[0]);
      const auto answer = [&](std::vector<std::string> frames) {
        frames.insert(frames.begin(), identity);
        router_.Send(frames);
      };
      std::lock_guard lock(mutex_);
      for (const auto& [n, payload] : history_) {
        if (n >= *start) answer(kv::ReplayBatchFrames(framing, topic_, n, payload));
      }
      answer(kv::ReplayEndFrames(framing));
    }
  }

  const uint32_t process_;
  const std::string topic_;
  void* context_;
  ZmqSocket pub_, router_;
  uint16_t replay_port_ = 0;
  std::mutex mutex_;
  std::deque<std::pair<uint32_t, std::string>> history_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

class ManagerTest : public ::testing::Test {
 protected:
  void Make(EventsOptions options = {}) {
    auto made = EventsManager::Create(std::move(options), index_, registry_, SystemClock());
    ASSERT_TRUE(made) << made.error().message;
    manager_ = std::move(*made);
    manager_->Start();
  }
  static std::shared_ptr<const fleet::Endpoint> Endpoint(fleet::EndpointId id, uint16_t port,
                                                         uint16_t events_port,
                                                         uint16_t replay_port = 0,
                                                         uint16_t ranks = 1) {
    auto endpoint = std::make_shared<fleet::Endpoint>();
    endpoint->id = id;
    endpoint->spec.name = "engine-" + std::to_string(id);
    endpoint->spec.url.address = {"127.0.0.1", port};
    if (events_port != 0) endpoint->spec.events = "tcp://127.0.0.1:" + std::to_string(events_port);
    if (replay_port != 0) endpoint->spec.replay = "tcp://127.0.0.1:" + std::to_string(replay_port);
    endpoint->spec.data_parallel = ranks;
    return endpoint;
  }
  // One that connects to us, at the one address of these tests.
  static std::shared_ptr<const fleet::Endpoint> Life(fleet::EndpointId id,
                                                     const std::string& incarnation) {
    auto endpoint = std::make_shared<fleet::Endpoint>(*Endpoint(id, 8000, 0));
    endpoint->spec.incarnation = incarnation;
    return endpoint;
  }
  uint64_t Unassigned(const std::string& reason) {
    const std::string text = registry_.Render();
    const std::string line =
        "warmpath_events_unassigned_messages_total{reason=\"" + reason + "\"} ";
    const size_t at = text.find(line);
    return at == std::string::npos ? 0
                                   : std::strtoull(text.c_str() + at + line.size(), nullptr, 10);
  }
  void Set(std::vector<std::shared_ptr<const fleet::Endpoint>> endpoints) {
    fleet::Snapshot snapshot;
    snapshot.endpoints = std::move(endpoints);
    manager_->SetEndpoints(snapshot);
  }
  uint32_t Resident(index::Holder holder, uint32_t process) {
    std::vector<kv::TokenId> tokens;
    for (uint32_t n = 0; n < 50; ++n) tokens.insert(tokens.end(), {process, n});
    for (const auto& match :
         index_.Match(kv::PrefixKeys(kv::RootKey(kBlock, "", ""), tokens, kBlock))) {
      if (match.holder == holder) return match.blocks;
    }
    return 0;
  }
  PublisherStatus Status(size_t i = 0) { return manager_->status().at(i); }

  Registry registry_;
  index::KvIndex index_{uint64_t{64} << 20};
  std::unique_ptr<EventsManager> manager_;
};

TEST_F(ManagerTest, DialsAnEngineAndIndexesItsBlocks) {
  FakeEngine engine(1);
  engine.Bind();
  Make();
  Set({Endpoint(1, 8000, engine.port())});
  engine.AwaitSubscriber();
  for (uint32_t n = 0; n < 5; ++n) engine.Publish(n);
  EXPECT_TRUE(Eventually([&] { return Resident({1, 0}, 1) == 5; }));
  EXPECT_TRUE(Eventually([&] { return Status().connected; }));
  EXPECT_TRUE(Eventually([&] { return Status().received == 5; }));
  EXPECT_EQ(manager_->flowing(), std::vector<fleet::EndpointId>{1});
  EXPECT_EQ(manager_->block_size(1), kBlock);
  EXPECT_EQ(manager_->block_size(2), 0u);
  engine.Send({"", "short", "x"});
  EXPECT_TRUE(Eventually([&] { return Status().errors == 1; }));
  Set({});
  EXPECT_TRUE(Eventually([&] { return Resident({1, 0}, 1) == 0; }));
  EXPECT_TRUE(manager_->status().empty());
}

TEST_F(ManagerTest, DialsAnewAfterBytesThatZmqCannotAccept) {
  FakeEngine engine(1);
  engine.Bind();
  EventsOptions options;
  options.max_message_bytes = 4096;
  options.redial_after = 100ms;
  Make(options);
  Set({Endpoint(1, 8000, engine.port())});
  engine.AwaitSubscriber();
  engine.Send({"", std::string(8, '\0'), std::string(5000, 'x')});
  engine.AwaitSubscriber();  // it went
  engine.AwaitSubscriber();  // it came back
  for (uint32_t n = 0; n < 3; ++n) engine.Publish(n);
  EXPECT_TRUE(Eventually([&] { return Resident({1, 0}, 1) == 3; }));
}

TEST_F(ManagerTest, ReplaysHistoryAndGapsInBothFramings) {
  for (const auto framing : {kv::ReplayFraming::kPlain, kv::ReplayFraming::kWithTopic}) {
    FakeEngine engine(1, "kv@x@m");
    engine.Bind();
    engine.BindReplay(framing);
    for (uint32_t n = 0; n < 4; ++n) engine.Publish(n, false);  // before the router came
    Make();
    Set({Endpoint(1, 8000, engine.port(), engine.replay_port())});
    engine.AwaitSubscriber();
    ASSERT_TRUE(Eventually([&] { return Resident({1, 0}, 1) == 4; }));
    engine.Publish(4);
    engine.Publish(5, false);
    engine.Publish(6);
    EXPECT_TRUE(Eventually([&] { return Resident({1, 0}, 1) == 7; }));
    EXPECT_TRUE(Eventually([&] { return Status().last_seq == 6; }));
    EXPECT_EQ(Status().gaps, 1u);
    EXPECT_EQ(Status().restarts, 0u);
    manager_->Stop();
    index_.ClearEndpoint(1);
  }
}

TEST_F(ManagerTest, AGapWithoutReplayForgetsAndGoesOn) {
  FakeEngine engine(1);
  engine.Bind();
  Make();
  Set({Endpoint(1, 8000, engine.port())});
  engine.AwaitSubscriber();
  engine.Publish(0);
  engine.Publish(2);
  EXPECT_TRUE(Eventually([&] { return Status().gaps == 1 && Status().last_seq == 2; }));
  EXPECT_TRUE(Eventually([&] { return Resident({1, 0}, 1) == 0; }));
}

TEST_F(ManagerTest, ForgetsAnEngineThatRestarted) {
  for (const bool replay : {false, true}) {
    auto engine = std::make_unique<FakeEngine>(1);
    engine->Bind();
    if (replay) engine->BindReplay(kv::ReplayFraming::kWithTopic);
    const uint16_t port = engine->port();
    const uint16_t replay_port = engine->replay_port();
    Make();
    Set({Endpoint(1, 8000, port, replay_port)});
    engine->AwaitSubscriber();
    for (uint32_t n = 0; n < 4; ++n) engine->Publish(n);
    ASSERT_TRUE(Eventually([&] { return Resident({1, 0}, 1) == 4; }));
    engine = std::make_unique<FakeEngine>(2);
    engine->Bind(port);
    if (replay) engine->BindReplay(kv::ReplayFraming::kWithTopic, replay_port);
    engine->AwaitSubscriber();
    engine->Publish(0);
    EXPECT_TRUE(Eventually([&] { return Resident({1, 0}, 2) == 1; }));
    EXPECT_EQ(Resident({1, 0}, 1), 0u);
    EXPECT_EQ(Status().restarts, 1u);
    manager_->Stop();
    index_.ClearEndpoint(1);
  }
}

TEST_F(ManagerTest, DialsEveryRankAtItsOwnPort) {
  // Two neighbouring ports, wherever they are free.
  std::unique_ptr<FakeEngine> engines[2];
  uint16_t base = 0;
  ASSERT_TRUE(Eventually([&] {
    engines[0] = std::make_unique<FakeEngine>(1);
    engines[1] = std::make_unique<FakeEngine>(2);
    engines[0]->Bind();
    base = engines[0]->port();
    return base < 65535 && engines[1]->TryBind(static_cast<uint16_t>(base + 1));
  }));
  FakeEngine& first = *engines[0];
  FakeEngine& second = *engines[1];
  Make();
  Set({Endpoint(1, 8000, base, 0, 2)});
  first.AwaitSubscriber();
  second.AwaitSubscriber();
  first.Publish(0);
  second.Publish(0, true, 1);
  EXPECT_TRUE(Eventually([&] { return Resident({1, 0}, 1) == 1 && Resident({1, 1}, 2) == 1; }));
}

TEST_F(ManagerTest, BoundSocketTakesPublishersThatProveTheirAddress) {
  EventsOptions options;
  options.bind = "tcp://127.0.0.1:*";
  Make(options);
  ASSERT_NE(manager_->bound_port(), 0);
  Set({Endpoint(1, 8000, 0), Endpoint(2, 8001, 0, 0, 2)});
  FakeEngine one(1, "kv@127.0.0.1:8000@m");
  FakeEngine two(2, "kv@127.0.0.1:8001@m");
  FakeEngine liar(3, "kv@10.0.0.1:8000@m");
  FakeEngine vague(4, "kv@127.0.0.1@m");
  for (FakeEngine* engine : {&one, &two, &liar, &vague}) {
    engine->Connect(manager_->bound_port());
    engine->AwaitSubscriber();
    engine->Publish(0, true, engine == &two ? 1 : 0);
  }
  EXPECT_TRUE(Eventually([&] { return Resident({1, 0}, 1) == 1 && Resident({2, 1}, 2) == 1; }));
  EXPECT_TRUE(Eventually([&] {
    const std::string text = registry_.Render();
    return text.find("unassigned_messages_total{reason=\"peer_address\"} 1") != std::string::npos &&
           text.find("unassigned_messages_total{reason=\"ambiguous_endpoint\"} 1") !=
               std::string::npos;
  }));
  EXPECT_EQ(index_.stats().blocks, 2u);
}

TEST_F(ManagerTest, EnginesMoveToTheSuccessorOfARouterThatLeaves) {
  EventsOptions options;
  options.bind = "tcp://127.0.0.1:*";
  Make(options);
  Set({Life(1, "uid-a#0")});
  FakeEngine engine(1, "kv@127.0.0.1@m");
  engine.Connect(manager_->bound_port());
  engine.AwaitSubscriber();
  engine.Publish(0);
  ASSERT_TRUE(Eventually([&] { return Resident({1, 0}, 1) == 1; }));

  manager_->Unbind();
  index::KvIndex index(1 << 20);
  Registry registry;
  options.bind = "tcp://127.0.0.1:" + std::to_string(manager_->bound_port());
  std::unique_ptr<EventsManager> successor;
  ASSERT_TRUE(Eventually([&] {
    auto made = EventsManager::Create(options, index, registry, SystemClock());
    if (made) successor = std::move(*made);
    return successor != nullptr;
  }));
  successor->Start();
  fleet::Snapshot snapshot;
  snapshot.endpoints = {Life(1, "uid-a#0")};
  successor->SetEndpoints(snapshot);
  uint32_t n = 1;
  EXPECT_TRUE(Eventually([&] {
    engine.Publish(n++);
    return successor->status().front().received > 0;
  }));
  EXPECT_EQ(Resident({1, 0}, 1), 1u);  // what the leaving router knew, it still knows
  successor->Stop();
}

TEST_F(ManagerTest, ABoundConnectionOfAFormerLifeIsNotHeardForTheNext) {
  EventsOptions options;
  options.bind = "tcp://127.0.0.1:*";
  Make(options);
  Set({Life(1, "uid-a#0")});
  FakeEngine former(1, "kv@127.0.0.1@m");
  former.Connect(manager_->bound_port());
  former.AwaitSubscriber();
  former.Publish(0);
  ASSERT_TRUE(Eventually([&] { return Resident({1, 0}, 1) == 1; }));

  Set({Life(2, "uid-b#0")});
  EXPECT_TRUE(Eventually([&] { return Resident({1, 0}, 1) == 0; }));
  // Late events, also ones that look like a new process.
  former.Publish(1);
  former.Publish(0);
  EXPECT_TRUE(Eventually([&] { return Unassigned("former_connection") == 2; }));
  FakeEngine next(2, "kv@127.0.0.1@m");
  next.Connect(manager_->bound_port());
  next.AwaitSubscriber();
  next.Publish(0);
  EXPECT_TRUE(Eventually([&] { return Resident({2, 0}, 2) == 1; }));
  former.Publish(2);
  EXPECT_TRUE(Eventually([&] { return Unassigned("former_connection") == 3; }));
  EXPECT_EQ(Resident({2, 0}, 1), 0u);
  EXPECT_EQ(Status().received, 1u);

  // Not ready for a while, then the same life: its connection counts.
  Set({});
  uint32_t n = 1;
  EXPECT_TRUE(Eventually([&] {
    next.Publish(n++);
    return Unassigned("unknown_endpoint") > 0;
  }));
  Set({Life(3, "uid-b#0")});
  EXPECT_TRUE(Eventually([&] {
    next.Publish(n++);
    return Status().received > 0;
  }));
  EXPECT_EQ(Unassigned("former_connection"), 3u);
}

TEST_F(ManagerTest, ABoundConnectionThatOutlivesAFormerLifeIsTheNextOnes) {
  EventsOptions options;
  options.bind = "tcp://127.0.0.1:*";
  options.connection_proof = 200ms;
  Make(options);
  Set({Life(1, "uid-a#0")});
  FakeEngine engine(1, "kv@127.0.0.1@m");
  engine.Connect(manager_->bound_port());
  engine.AwaitSubscriber();
  engine.Publish(0);
  ASSERT_TRUE(Eventually([&] { return Resident({1, 0}, 1) == 1; }));
  Set({Life(2, "uid-a#1")});  // another container of the pod restarted
  uint32_t n = 1;
  EXPECT_TRUE(Eventually([&] {
    engine.Publish(n++);
    return Status().endpoint == 2 && Status().received > 0;
  }));
  EXPECT_GT(Unassigned("former_connection"), 0u);
}

TEST_F(ManagerTest, ADialledSuccessorStartsWithoutItsPredecessorsBlocks) {
  auto engine = std::make_unique<FakeEngine>(1);
  engine->Bind();
  const uint16_t port = engine->port();
  Make();
  const auto life = [&](fleet::EndpointId id, const std::string& incarnation) {
    auto endpoint = std::make_shared<fleet::Endpoint>(*Endpoint(id, 8000, port));
    endpoint->spec.name = "pod";
    endpoint->spec.incarnation = incarnation;
    return endpoint;
  };
  Set({life(1, "uid-a#0")});
  engine->AwaitSubscriber();
  for (uint32_t n = 0; n < 4; ++n) engine->Publish(n);
  ASSERT_TRUE(Eventually([&] { return Resident({1, 0}, 1) == 4; }));
  for (uint32_t n = 4; n < 40; ++n) engine->Publish(n);  // some still on their way
  Set({});
  EXPECT_TRUE(Eventually([&] { return index_.stats().entries == 0; }));
  engine = std::make_unique<FakeEngine>(2);
  engine->Bind(port);
  Set({life(2, "uid-b#0")});
  engine->AwaitSubscriber();
  engine->Publish(0);
  EXPECT_TRUE(Eventually([&] { return Resident({2, 0}, 2) == 1; }));
  EXPECT_EQ(Resident({2, 0}, 1), 0u);
  EXPECT_EQ(index_.stats().entries, 1u);
}

// An engine that dies in the moment its endpoint is removed takes no other with it.
TEST_F(ManagerTest, EnginesDyingAsTheyAreRemovedLeaveTheOthersHeard) {
  FakeEngine stays(1);
  stays.Bind();
  Make();
  const auto one = Endpoint(1, 8000, stays.port());
  Set({one});
  stays.AwaitSubscriber();
  for (uint32_t round = 0; round < 50; ++round) {
    auto leaves = std::make_unique<FakeEngine>(2);
    leaves->Bind();
    Set({one, Endpoint(2 + round, 8000, leaves->port())});
    leaves->AwaitSubscriber();
    leaves->Publish(0);
    ASSERT_TRUE(Eventually([&] { return Resident({2 + round, 0}, 2) == 1; }));
    Set({one});
    ASSERT_TRUE(Eventually([&] { return Resident({2 + round, 0}, 2) == 0; }));
    leaves.reset();
    stays.Publish(round);
    ASSERT_TRUE(Eventually([&] { return Resident({1, 0}, 1) == round + 1; })) << round;
  }
}

// A thousand dialled endpoints, one of which changes: the others keep their sockets.
TEST_F(ManagerTest, AChangeAmongManyTouchesOnlyWhatChanged) {
  FakeEngine engine(1);
  engine.Bind();
  Make();
  std::vector<std::shared_ptr<const fleet::Endpoint>> endpoints{Endpoint(1, 8000, engine.port())};
  for (fleet::EndpointId id = 2; id <= 1000; ++id) endpoints.push_back(Endpoint(id, 8000, 0));
  Set(endpoints);
  engine.AwaitSubscriber();
  engine.Publish(0);
  ASSERT_TRUE(Eventually([&] { return Resident({1, 0}, 1) == 1; }));
  for (int i = 0; i < 200; ++i) {
    endpoints.pop_back();
    Set(endpoints);
  }
  engine.Publish(1);
  EXPECT_TRUE(Eventually([&] { return Resident({1, 0}, 1) == 2; }));
  EXPECT_EQ(Status().restarts, 0u);
}

TEST_F(ManagerTest, AnEngineWhoseNameResolvesLateIsHeard) {
  EventsOptions options;
  options.bind = "tcp://127.0.0.1:*";
  std::atomic<bool> known{false};
  options.resolve = [&](const std::string&) {
    return known ? std::vector<std::string>{"127.0.0.1"} : std::vector<std::string>();
  };
  Make(options);
  Set({Endpoint(1, 8000, 0)});
  FakeEngine engine(1, "kv@127.0.0.1:8000@m");
  engine.Connect(manager_->bound_port());
  engine.AwaitSubscriber();
  engine.Publish(0);
  EXPECT_TRUE(Eventually([&] {
    return registry_.Render().find("unassigned_messages_total{reason=\"unknown_endpoint\"} 1") !=
           std::string::npos;
  }));
  known = true;
  Set({Endpoint(1, 8000, 0)});
  engine.Publish(0);
  EXPECT_TRUE(Eventually([&] {
    if (Resident({1, 0}, 1) == 1) return true;
    engine.Publish(0);  // the new addresses reach the worker some time after the call
    return false;
  }));
}

TEST_F(ManagerTest, RequestsDoNotWaitForASlowResolver) {
  EventsOptions options;
  options.bind = "tcp://127.0.0.1:*";
  std::promise<void> asked, answer;
  options.resolve = [&](const std::string&) {
    asked.set_value();
    answer.get_future().wait();
    return std::vector<std::string>{"127.0.0.1"};
  };
  Make(options);
  std::thread setter([&] { Set({Endpoint(1, 8000, 0)}); });
  asked.get_future().wait();
  auto request = std::async(std::launch::async, [&] {
    manager_->NoteTraffic(1, 100);
    return manager_->block_size(1);
  });
  EXPECT_EQ(request.wait_for(20s), std::future_status::ready);
  answer.set_value();
  setter.join();
  EXPECT_EQ(Status().address, "bind");
}

TEST_F(ManagerTest, SaysWhichFlagASilentEngineNeeds) {
  LogCapture capture;
  EventsOptions options;
  options.silent_after = 1ms;
  Make(options);
  FakeEngine engine(1);
  engine.Bind();
  Set({Endpoint(1, 8000, engine.port())});
  manager_->NoteTraffic(1, 1000);
  manager_->NoteTraffic(99, 1000);  // nobody
  EXPECT_TRUE(Eventually([&] { return Status().connected && Status().silent; }));
  EXPECT_TRUE(manager_->flowing().empty());
  EXPECT_TRUE(Eventually([&] {
    return registry_.Render().find("warmpath_events_silent_engines_total 1") != std::string::npos;
  }));
  manager_->Stop();  // the capture may be read once nothing logs any more
  EXPECT_NE(capture.text().find("--kv-events-config"), std::string::npos);
}

TEST_F(ManagerTest, RefusesAnAddressItCannotBind) {
  EventsOptions options;
  options.bind = "tcp://256.0.0.1:1";
  EXPECT_FALSE(EventsManager::Create(options, index_, registry_, SystemClock()));
}

}  // namespace
}  // namespace warmpath::events
