// One loop's part of a run: sends its share of the requests of one side and records the answers.
// Internal to load.
//
// Confined to its loop but for what is said to be thread-safe. Start, Cancel and destruction happen
// on the loop.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "load/bench.h"
#include "net/http_client.h"
#include "net/loop.h"

namespace warmpath::load {

// What the clients of one side share. Thread-safe.
struct SideState {
  std::atomic<uint64_t> next{0};  // closed loop: the next request
  std::atomic<uint64_t> sent{0}, answered{0}, errors{0};
  std::atomic<uint64_t> prompt_tokens{0}, cached_tokens{0};
  std::atomic<uint64_t> measured{0}, ttft_us{0};
};

// What all clients of a run share; outlives them. Immutable but for `sides`.
struct RunPlan {
  const BenchOptions* options = nullptr;
  const Workload* workload = nullptr;
  std::vector<Duration> arrivals;  // open loop; empty: closed
  uint64_t total = 0;              // requests per side, warm-up included
  TimePoint start;
  std::vector<std::unique_ptr<SideState>> sides;
};

class Client {
 public:
  // Open loop: requests shard, shard + shards, ...; closed loop: `workers` requests in flight.
  // `finished` is called once, on the loop, when nothing is left to send or to wait for.
  Client(net::Loop& loop, RunPlan& plan, size_t side, size_t shard, size_t shards, size_t workers,
         std::function<void()> finished);
  ~Client();

  void Start();
  // Ends everything in flight; open requests are recorded with `reason`.
  void Cancel(std::string_view reason);

  // After `finished`.
  std::vector<RequestRecord>& records() { return records_; }
  std::vector<float>& gaps() { return gaps_; }

 private:
  struct Flight;

  void Arm();
  void Next();  // closed loop: one worker's next request
  void Send(uint64_t index, TimePoint due);
  void Finish(Flight& flight, std::string error);
  void CheckFinished();
  double Offset(TimePoint at) const;

  net::Loop& loop_;
  RunPlan& plan_;
  const Side& side_;
  SideState& state_;
  const size_t side_index_, shard_, shards_, workers_;
  std::function<void()> finished_;
  std::unique_ptr<net::HttpClient> http_;
  net::Timer timer_;
  uint64_t next_ = 0;  // open loop
  size_t idle_workers_ = 0;
  bool cancelled_ = false;
  bool told_ = false;
  std::unordered_map<uint64_t, std::shared_ptr<Flight>> flights_;
  std::vector<RequestRecord> records_;
  std::vector<float> gaps_;
};

}  // namespace warmpath::load
