// Simulated engines as clients see them: real sockets on the loopback.
#include "sim/sim.h"

#include <gtest/gtest.h>
#include <zmq.h>

#include <fmt/format.h>

#include <atomic>
#include <set>
#include <thread>

#include "codec/json.h"
#include "codec/sse.h"
#include "kv/event_batch.h"
#include "kv/replay.h"
#include "net/http_client.h"

namespace warmpath::sim {
namespace {

using codec::Find;
using codec::FindInt;
using codec::FindString;
using codec::Json;
using std::chrono::milliseconds;
using std::chrono::seconds;

SimOptions Options() {
  SimOptions options;
  options.model = "Qwen/Qwen3-0.6B";
  options.host = "127.0.0.1";
  options.port = 0;
  options.max_model_len = 2048;
  options.num_gpu_blocks = 256;
  options.enable_prompt_tokens_details = true;
  options.timing = {milliseconds(1), std::chrono::microseconds(1), milliseconds(1), 1.0};
  options.kv_events.enable_kv_cache_events = true;
  options.kv_events.endpoint = "tcp://127.0.0.1:0";
  options.kv_events.replay_endpoint = "tcp://127.0.0.1:0";
  options.kv_events.topic = "kv@test@model";
  return options;
}

class SimTest : public testing::Test {
 protected:
  void Launch(SimOptions options) {
    loops_ = std::make_unique<net::LoopGroup>("sim", 2);
    loops_->Start();
    auto started = Simulator::Start(std::move(options), *loops_);
    ASSERT_TRUE(started) << started.error().message;
    simulator_ = std::move(*started);
  }
  void TearDown() override {
    if (simulator_) simulator_->Stop(seconds(5));
    simulator_.reset();
    if (loops_) loops_->Stop();
  }

  net::HttpResponse Send(const std::string& method, const std::string& target,
                         const std::string& body = "", net::Headers headers = {},
                         size_t engine = 0) {
    net::HttpRequest request;
    request.method = method;
    request.target = target;
    request.body = body;
    request.headers = std::move(headers);
    if (!body.empty() && !request.headers.Get("content-type"))
      request.headers.Add("Content-Type", "application/json");
    auto response = net::FetchBlocking(*net::ParseUrl(simulator_->endpoints()[engine].url),
                                       std::move(request), seconds(20), 1 << 24);
    EXPECT_TRUE(response) << (response ? "" : response.error().message);
    return response ? *response : net::HttpResponse{};
  }
  Json Post(const std::string& target, const std::string& body, net::Headers headers = {}) {
    net::HttpResponse response = Send("POST", target, body, std::move(headers));
    EXPECT_EQ(response.status, 200) << response.body;
    auto json = codec::ParseJson(response.body);
    EXPECT_TRUE(json) << response.body;
    return json ? *json : Json();
  }
  static int64_t Cached(const Json& answer) {
    return *FindInt(*Find(*Find(answer, "usage"), "prompt_tokens_details"), "cached_tokens");
  }

  std::unique_ptr<net::LoopGroup> loops_;
  std::unique_ptr<Simulator> simulator_;
};

// A SUB or DEALER socket with a deadline.
class Peer {
 public:
  Peer(int type, const std::string& address)
      : context_(zmq_ctx_new()), socket_(zmq_socket(context_, type)) {
    const int timeout = 10'000, linger = 0;
    zmq_setsockopt(socket_, ZMQ_RCVTIMEO, &timeout, sizeof(timeout));
    zmq_setsockopt(socket_, ZMQ_LINGER, &linger, sizeof(linger));
    if (type == ZMQ_SUB) zmq_setsockopt(socket_, ZMQ_SUBSCRIBE, "", 0);
    EXPECT_EQ(zmq_connect(socket_, address.c_str()), 0);
  }
  ~Peer() {
    zmq_close(socket_);
    zmq_ctx_term(context_);
  }
  void Send(const std::vector<std::string>& frames) {
    for (size_t i = 0; i < frames.size(); ++i) {
      zmq_send(socket_, frames[i].data(), frames[i].size(),
               i + 1 < frames.size() ? ZMQ_SNDMORE : 0);
    }
  }
  std::vector<std::string> Receive() {
    std::vector<std::string> frames;
    int more = 1;
    while (more != 0) {
      zmq_msg_t message;
      zmq_msg_init(&message);
      if (zmq_msg_recv(&message, socket_, 0) < 0) return {};
      frames.emplace_back(static_cast<const char*>(zmq_msg_data(&message)), zmq_msg_size(&message));
      more = zmq_msg_more(&message);
      zmq_msg_close(&message);
    }
    return frames;
  }

 private:
  void* context_;
  void* socket_;
};

std::string IdsPrompt(size_t count, uint32_t salt = 0) {
  std::string ids;
  for (size_t i = 0; i < count; ++i) ids += fmt::format("{}{}", i ? "," : "", (i * 7 + salt) % 300);
  return ids;
}

std::string CompletionBody(size_t tokens, int max_tokens, uint32_t salt = 0,
                           const std::string& more = "") {
  return fmt::format(
      R"({{"model":"Qwen/Qwen3-0.6B","prompt":[{}],"max_tokens":{},"ignore_eos":true{}}})",
      IdsPrompt(tokens, salt), max_tokens, more);
}

TEST_F(SimTest, TheSecondIdenticalPromptIsCached) {
  Launch(Options());
  const Json first = Post("/v1/completions", CompletionBody(72, 4));
  EXPECT_EQ(Cached(first), 0);
  const Json second = Post("/v1/completions", CompletionBody(72, 4));
  EXPECT_EQ(Cached(second), 64);
  const auto& choice = Find(first, "choices")->as_array()[0];
  EXPECT_EQ(*FindString(choice, "text"),
            *FindString(Find(second, "choices")->as_array()[0], "text"));
  EXPECT_FALSE(FindString(choice, "text")->empty());
  EXPECT_EQ(*FindString(choice, "finish_reason"), "length");
}

TEST_F(SimTest, EventsArriveInOrderAndReplayIsByteEqual) {
  Launch(Options());
  const auto& rank = simulator_->endpoints()[0].ranks[0];
  Peer sub(ZMQ_SUB, rank.events);
  // The subscription takes a moment: requests until one is heard.
  std::vector<std::string> live;
  std::thread requests([&] {
    for (uint32_t i = 0; i < 40; ++i)
      Send("POST", "/v1/completions", CompletionBody(40, 2, i * 13 + 1));
  });
  live = sub.Receive();
  requests.join();
  ASSERT_EQ(live.size(), 3u);
  EXPECT_EQ(live[0], "kv@test@model");
  auto batch = kv::DecodeBatch(live[2]);
  ASSERT_TRUE(batch) << batch.error().message;
  const auto& stored = std::get<kv::BlockStored>(batch->events.at(0));
  EXPECT_EQ(stored.hashes.size(), 2u);
  EXPECT_EQ(stored.tokens.size(), 32u);
  EXPECT_EQ(batch->rank, 0u);

  Peer dealer(ZMQ_DEALER, rank.replay);
  dealer.Send(kv::ReplayRequestFrames(0));
  uint64_t expected = 0;
  while (true) {
    const std::vector<std::string> frames = dealer.Receive();
    ASSERT_FALSE(frames.empty()) << "no end marker";
    const std::vector<std::string_view> views(frames.begin(), frames.end());
    auto reply = kv::ParseReplayReply(views);
    ASSERT_TRUE(reply) << reply.error().message;
    if (reply->end) break;
    EXPECT_EQ(reply->sequence, expected++);
    if (kv::SequenceBytes(reply->sequence) == live[1]) EXPECT_EQ(reply->payload, live[2]);
  }
  EXPECT_EQ(expected, 40u);
}

TEST_F(SimTest, DebugKvIsTheResidentSet) {
  Launch(Options());
  Post("/v1/completions", CompletionBody(72, 4));
  auto debug = codec::ParseJson(Send("GET", "/debug/kv").body);
  ASSERT_TRUE(debug);
  const auto& blocks = Find(Find(*debug, "ranks")->as_array()[0], "blocks")->as_array();
  ASSERT_EQ(blocks.size(), 4u);
  EXPECT_TRUE(Find(blocks[0], "parent")->is_null());
  EXPECT_EQ(Find(blocks[1], "parent")->to_number<uint64_t>(),
            Find(blocks[0], "hash")->to_number<uint64_t>());
  EXPECT_EQ(Find(blocks[0], "token_ids")->as_array().size(), 16u);
  EXPECT_EQ(*FindString(blocks[0], "tier"), "GPU");
}

TEST_F(SimTest, StreamsTokenByTokenWithUsageAtTheEnd) {
  Launch(Options());
  const net::HttpResponse response = Send(
      "POST", "/v1/chat/completions",
      R"({"messages":[{"role":"user","content":"hello river"}],"max_tokens":5,"stream":true,"stream_options":{"include_usage":true}})");
  ASSERT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.Get("content-type"), "text/event-stream; charset=utf-8");
  std::vector<std::string> events;
  codec::SseParser parser;
  ASSERT_TRUE(parser.Feed(response.body,
                          [&](const codec::SseEvent& event) { events.emplace_back(event.data); }));
  ASSERT_EQ(events.size(), 1u + 5 + 1 + 1);
  EXPECT_NE(events[0].find(R"("delta":{"role":"assistant","content":""})"), std::string::npos);
  EXPECT_NE(events[5].find(R"("finish_reason":"length")"), std::string::npos);
  auto usage = codec::ParseJson(events[6]);
  EXPECT_EQ(FindInt(*Find(*usage, "usage"), "completion_tokens"), 5);
  EXPECT_EQ(events[7], "[DONE]");
}

TEST_F(SimTest, AnAnswerSentAsHistoryHitsItsGeneratedBlocks) {
  Launch(Options());
  const std::string prompt(64, 'x');
  const Json first =
      Post("/v1/completions",
           fmt::format(R"({{"prompt":"{}","max_tokens":33,"ignore_eos":true}})", prompt));
  const std::string text(*FindString(Find(first, "choices")->as_array()[0], "text"));
  const Json second =
      Post("/v1/completions",
           fmt::format(R"({{"prompt":"{}{} and more","max_tokens":1}})", prompt, text));
  EXPECT_EQ(Cached(second), 96);
}

TEST_F(SimTest, ListsOfPromptsAndSeveralChoicesAreNumberedPromptByPrompt) {
  Launch(Options());
  const Json answer =
      Post("/v1/completions", R"({"prompt":["one two three","four"],"n":2,"max_tokens":3})");
  const auto& choices = Find(answer, "choices")->as_array();
  ASSERT_EQ(choices.size(), 4u);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(FindInt(choices[i], "index"), static_cast<int64_t>(i));
  EXPECT_NE(*FindString(choices[0], "text"), *FindString(choices[1], "text"));
  EXPECT_EQ(FindInt(*Find(answer, "usage"), "completion_tokens"), 12);
}

TEST_F(SimTest, AResetIsSeenByTheNextRequest) {
  Launch(Options());
  Post("/v1/completions", CompletionBody(72, 2));
  EXPECT_EQ(Send("POST", "/reset_prefix_cache").body, R"({"success":true})");
  EXPECT_EQ(Cached(Post("/v1/completions", CompletionBody(72, 2))), 0);
}

TEST_F(SimTest, AClientThatGoesAwayAbortsItsRequest) {
  SimOptions options = Options();
  options.timing.inter_token_latency = milliseconds(5);
  Launch(options);
  {
    net::Loop loop("client");
    std::unique_ptr<net::HttpClient> client;
    std::unique_ptr<net::HttpCall> call;
    std::atomic<bool> streaming = false;
    loop.Start();
    loop.Run([&] {
      client = net::HttpClient::Create(loop, {});
      net::HttpRequest request;
      request.method = "POST";
      request.target = "/v1/completions";
      request.headers.Add("Content-Type", "application/json");
      request.body = CompletionBody(40, 1900, 0, R"(,"stream":true)");
      net::CallHandlers handlers;
      handlers.on_head = [](net::HttpResponseHead) {};
      handlers.on_data = [&](std::string_view) { streaming = true; };
      handlers.on_end = [] {};
      handlers.on_error = [](net::CallFailure, Error) {};
      call = client->Send(*net::ParseUrl(simulator_->endpoints()[0].url), std::move(request), {},
                          std::move(handlers));
    });
    const TimePoint until = SystemClock().Now() + seconds(10);
    while (!streaming && SystemClock().Now() < until) std::this_thread::yield();
    ASSERT_TRUE(streaming);
    loop.Run([&] {
      call.reset();
      client.reset();
    });
    loop.Stop();
  }
  const TimePoint until = SystemClock().Now() + seconds(10);
  std::string metrics;
  do {
    metrics = Send("GET", "/metrics").body;
  } while (
      metrics.find("vllm:num_requests_running{engine=\"0\",model_name=\"Qwen/Qwen3-0.6B\"} 0") ==
          std::string::npos &&
      SystemClock().Now() < until);
  EXPECT_NE(
      metrics.find(
          "warmpath_sim_aborted_requests_total{engine=\"0\",model_name=\"Qwen/Qwen3-0.6B\"} 1"),
      std::string::npos)
      << metrics.substr(0, 2000);
  EXPECT_EQ(Cached(Post("/v1/completions", CompletionBody(40, 1))), 32);
}

TEST_F(SimTest, MetricsHaveTheEnginesNamesAndLabels) {
  Launch(Options());
  Post("/v1/completions", CompletionBody(72, 4));
  Post("/v1/completions", CompletionBody(72, 4));
  const std::string metrics = Send("GET", "/metrics").body;
  const std::string labels = R"({engine="0",model_name="Qwen/Qwen3-0.6B"})";
  for (
      const std::string& line :
      {"vllm:prefix_cache_queries_total" + labels + " 144",
       "vllm:prefix_cache_hits_total" + labels + " 64",
       "vllm:generation_tokens_total" + labels + " 8", "vllm:prompt_tokens_total" + labels + " 144",
       "vllm:num_requests_waiting" + labels + " 0", "vllm:kv_cache_usage_perc" + labels + " 0",
       std::string(
           R"(vllm:request_success_total{engine="0",finished_reason="length",model_name="Qwen/Qwen3-0.6B"} 2)"),
       "vllm:time_to_first_token_seconds_count" + labels + " 2"}) {
    EXPECT_NE(metrics.find(line), std::string::npos) << line;
  }
  EXPECT_NE(metrics.find(R"(block_size="16")"), std::string::npos);
  EXPECT_NE(metrics.find(R"(num_gpu_blocks="256")"), std::string::npos);
}

TEST_F(SimTest, RanksHaveTheirOwnCachesAndPins) {
  SimOptions options = Options();
  options.data_parallel_size = 2;
  Launch(options);
  ASSERT_EQ(simulator_->endpoints()[0].ranks.size(), 2u);
  EXPECT_EQ(Cached(Post("/v1/completions", CompletionBody(72, 2))), 0);
  EXPECT_EQ(Cached(Post("/v1/completions", CompletionBody(72, 2))), 0) << "the other rank's turn";
  EXPECT_EQ(Cached(Post("/v1/completions", CompletionBody(72, 2), {{"X-data-parallel-rank", "1"}})),
            64);
  EXPECT_EQ(Cached(Post("/v1/completions", CompletionBody(72, 2), {{"X-data-parallel-rank", "1"}})),
            64);
  const net::HttpResponse refused =
      Send("POST", "/v1/completions", CompletionBody(72, 2), {{"X-data-parallel-rank", "7"}});
  EXPECT_EQ(refused.status, 400);
  EXPECT_NE(refused.body.find("data_parallel_rank 7 is out of range [0, 2)."), std::string::npos);
}

TEST_F(SimTest, AdaptersAreModelsWithTheirOwnChains) {
  SimOptions options = Options();
  options.lora_modules = {{"sql", "/models/adapters/sql"}};
  Launch(options);
  auto models = codec::ParseJson(Send("GET", "/v1/models").body);
  const auto& data = Find(*models, "data")->as_array();
  ASSERT_EQ(data.size(), 2u);
  EXPECT_EQ(*FindString(data[1], "root"), "/models/adapters/sql");
  EXPECT_EQ(*FindString(data[1], "parent"), "Qwen/Qwen3-0.6B");
  Post("/v1/completions", CompletionBody(72, 2));
  std::string body = CompletionBody(72, 2);
  body.replace(body.find("Qwen/Qwen3-0.6B"), 15, "sql");
  const Json answer = Post("/v1/completions", body);
  EXPECT_EQ(Cached(answer), 0);
  EXPECT_EQ(*FindString(answer, "model"), "sql");
  EXPECT_EQ(Cached(Post("/v1/completions", body)), 64);
}

TEST_F(SimTest, ApiKeysGuardTheModelPathsOnly) {
  SimOptions options = Options();
  options.api_keys = {"secret"};
  Launch(options);
  EXPECT_EQ(Send("GET", "/v1/models").status, 401);
  EXPECT_EQ(Send("GET", "/v1/models", "", {{"Authorization", "Bearer secret"}}).status, 200);
  EXPECT_EQ(Send("GET", "/health").status, 200);
}

TEST_F(SimTest, RequestIdsBecomeTheAnswersId) {
  Launch(Options());
  const Json answer = Post("/v1/completions", CompletionBody(8, 1), {{"X-Request-Id", "req-1"}});
  EXPECT_EQ(*FindString(answer, "id"), "cmpl-req-1");
}

TEST_F(SimTest, ManyEnginesHaveTheirOwnAddresses) {
  SimOptions options = Options();
  options.count = 20;
  Launch(options);
  std::set<std::string> addresses;
  for (const auto& endpoint : simulator_->endpoints()) {
    addresses.insert(endpoint.url);
    addresses.insert(endpoint.ranks[0].events);
    addresses.insert(endpoint.ranks[0].replay);
  }
  EXPECT_EQ(addresses.size(), 60u);
  for (size_t i = 0; i < 20; ++i) EXPECT_EQ(Send("GET", "/health", "", {}, i).status, 200);
}

TEST_F(SimTest, ATakenPortIsAnErrorThatNamesIt) {
  Launch(Options());
  SimOptions options = Options();
  options.port = net::ParseUrl(simulator_->endpoints()[0].url)->address.port;
  auto second = Simulator::Start(options, *loops_);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find(std::to_string(options.port)), std::string::npos)
      << second.error().message;
}

TEST_F(SimTest, RuntimeSettingsChangeAllOrNothing) {
  Launch(Options());
  EXPECT_EQ(Send("POST", "/admin/config", R"({"inter-token-latency":"7ms","nope":1})").status, 400);
  EXPECT_NE(Send("GET", "/admin/config").body.find(R"("inter-token-latency":"1000us")"),
            std::string::npos);
  EXPECT_EQ(Send("POST", "/admin/config", R"({"inter-token-latency":"7ms"})").status, 200);
  EXPECT_NE(Send("GET", "/admin/config").body.find(R"("inter-token-latency":"7000us")"),
            std::string::npos);
}

TEST_F(SimTest, TokenizeAndDetokenizeAreInverse) {
  Launch(Options());
  const Json tokens = Post("/tokenize", R"({"prompt":"hello river"})");
  EXPECT_EQ(FindInt(tokens, "max_model_len"), 2048);
  const std::string ids = codec::DumpJson(*Find(tokens, "tokens"));
  EXPECT_EQ(Send("POST", "/detokenize", fmt::format(R"({{"tokens":{}}})", ids)).body,
            R"({"prompt":"hello river"})");
}

}  // namespace
}  // namespace warmpath::sim
