// The Director: from a request body to an endpoint, and from the response back to what was learned.
//
//   Prepare  parse, tokens (CPU; any thread; big bodies belong on a CpuPool)
//   Decide   keys, match, schedule, book (microseconds, never blocks; any thread)
//   Outcome  observes the response, releases what was booked
//
// Thread-safe; has no loop and no thread of its own. Tick() must be called every 100 ms or so
// (releases what is due, prints the beat).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/result.h"
#include "events/manager.h"
#include "fleet/fleet.h"
#include "index/kv_index.h"
#include "net/http.h"
#include "prompt/encoder.h"
#include "prompt/estimate.h"
#include "routing/policies.h"
#include "routing/record.h"
#include "scheduling/scheduler.h"

namespace warmpath::routing {

struct DirectorOptions {
  size_t max_records = 10'000;
  size_t max_record_bytes = size_t{64} << 20;
  Duration hold_grace =
      std::chrono::milliseconds(500);  // speculative blocks outlive their request by this
  Duration beat_interval = std::chrono::seconds(60);  // "metrics beat"; 0 = off
  // Bodies above belong on a CPU pool, but for those up to the second size of which no more than
  // the third is new.
  size_t offload_body_bytes = 64 << 10;
  size_t known_body_bytes = 1 << 20;
  size_t offload_new_bytes = 24 << 10;
  // Accept models no endpoint serves, as pools without a model list do (conformance tests).
  bool any_model = false;
  // Blocks of a prompt under way count as on their way into its engine's cache.
  bool speculative_blocks = true;
  // llm-d's inflight-load-producer: output tokens assumed for load, min(prompt * ratio, the
  // client's limit, cap).
  bool add_estimated_output_tokens = false;
  double output_ratio = 1.5;
  uint64_t max_estimated_output_tokens = 0;  // 0 = no cap
  prompt::EstimateOptions estimate{};        // pseudo tokens, where a plugin wants them
};

struct DirectorDeps {
  fleet::Fleet& fleet;
  index::KvIndex& index;
  events::EventsManager* events;  // may be null: no events, routing by load and speculation
  const scheduling::Scheduler& scheduler;
  Registry& metrics;
  const Clock& clock;
};

// What came with a request beside its body.
struct RequestAttributes {
  net::Headers headers;  // of the client; routing and plugins read some of them
  // The only endpoints it may go to, "ip:port" or "ip" (every port there); nullopt: the whole pool.
  std::optional<std::vector<std::string>> subset;
};

// A request made ready for decisions. Movable plain data, owned by the caller.
struct Prepared {
  std::string request_id;
  prompt::RequestView view;
  RequestAttributes attributes;
  std::string target_model;  // what the engine is asked for: view.model, or what a rewrite made it
  std::string objective;     // name of its InferenceObjective; "" = none
  std::string fairness_id;   // "default-flow" when none was given
  int32_t priority = 0;
  size_t body_bytes = 0;
  bool bodiless = false;  // GET and the like: least loaded endpoint, no tokens, no model
  std::vector<prompt::EncodedPrompt> prompts;  // empty when exact tokens could not be had
  bool tokens_known = false;
  std::string tokens_note;  // why not; never contains prompt text
  uint64_t prompt_tokens = 0;
  // Pseudo tokens per prompt, where exact ones could not be had and a plugin wants some.
  std::vector<std::vector<kv::TokenId>> estimated;
  std::string rewrite;  // name of the InferenceModelRewrite that chose target_model; "" = none
  TimePoint started{};
  Duration prepare_time{};
  int decisions = 0;  // made so far; those after the first are retries and do not count as lookups
};

// What this process knows of how well its predictions for one endpoint hold.
struct PredictionStats {
  uint64_t requests = 0;  // responses with cached_tokens
  uint64_t exact = 0;     // predicted == delivered
  uint64_t predicted_tokens = 0;
  uint64_t delivered_tokens = 0;
  uint64_t parity_checked = 0;  // responses whose prompt_tokens could be compared with ours
  uint64_t parity_equal = 0;
  uint64_t unseen_answers = 0;  // of which nothing was told
};

// One routed request. Owned by the proxy; not thread-safe. Destroying it without Finish counts as
// an abort.
struct OutcomeState;

class Outcome {
 public:
  Outcome(Outcome&&) noexcept;
  Outcome& operator=(Outcome&&) noexcept;
  ~Outcome();

  const fleet::Endpoint& endpoint() const;
  // "host:port", the pick first, then the fallbacks a picker was configured to name. At least one.
  const std::vector<std::string>& destinations() const;
  // What the plugins want set on the request and on the answer.
  const scheduling::PickEffects& effects() const;
  // Total score of every candidate that was not filtered out, by "host:port".
  std::vector<std::pair<std::string, double>> scores() const;
  const std::string& target_model() const;
  uint16_t rank() const;
  bool pin_rank() const;  // the endpoint has several ranks: send X-data-parallel-rank
  uint64_t predicted_cached_tokens() const;

  // The answer's status line; `streaming`: an event stream. Call before the body.
  void ResponseHead(int status, bool streaming);
  // Another endpoint of destinations() answered ("host:port"): what was booked moves to it.
  void Served(std::string_view destination);
  // Bytes of the response body as they pass (non-empty). The first calls FirstToken.
  void BodyChunk(size_t bytes);
  // First byte of the response body: prefill is done.
  void FirstToken();
  // usage of the response, as the engine reports it. `cached_tokens` absent: not reported in this
  // response.
  void Usage(uint64_t prompt_tokens, std::optional<uint64_t> cached_tokens,
             std::optional<uint64_t> output_tokens = std::nullopt);
  // The connection failed: the endpoint counts as unhealthy until it answers again, and everything
  // is released at once. `status`: the HTTP status the client got; 0 when the request goes
  // elsewhere.
  void Failed(const std::string& reason, int status = 0);
  // The endpoint answered 502, 503 or 504 and the request goes elsewhere: releases everything at
  // once. Its health is for its health checks to say: it may only be busy.
  void Declined();
  // The answer is complete with this HTTP status.
  void Finish(int status);
  // The client went away.
  void Abort();
  // The request is with its engine, and nothing of the answer will be told here. What was booked is
  // released by what the engine reports and by how long answers take (unseen.h); nothing is
  // learned or measured of the answer.
  void AnswerUnseen();

 private:
  friend class Director;
  void ReleaseNow(int status);
  void Drop();
  explicit Outcome(std::unique_ptr<OutcomeState> state);
  std::unique_ptr<OutcomeState> state_;
};

struct DirectorState;
struct MatchedRequest;

// Message of the 429 that a sheddable request gets while its candidates are saturated.
inline constexpr std::string_view kShedMessage = "system saturated, sheddable request dropped";

struct TokenizedView {
  std::string text;
  std::vector<kv::TokenId> token_ids;
  std::vector<kv::BlockKey> keys;
};

class Director {
 public:
  Director(DirectorDeps deps, DirectorOptions options);
  ~Director();

  // The tokenizer of the base model `model` (as engines name it; "" = any). Replaces the one
  // before. Without one requests go by load.
  void SetEncoder(std::string model, std::shared_ptr<const prompt::Encoder> encoder);
  // Why there is none, for people ("tokenizer not found: ..."); shown on cards and in records.
  void SetEncoderAbsent(std::string reason);
  std::shared_ptr<const prompt::Encoder> encoder() const;
  std::string encoder_note() const;

  // kInvalidArgument: not a JSON object (answer 400). Bodies that only the engine can judge are
  // prepared without tokens.
  // Applies the policies too: kInvalidArgument when a model is required and missing.
  Result<Prepared> Prepare(std::string request_id, prompt::Api api, std::string_view body,
                           RequestAttributes attributes = {}) const;
  // The same if it is quick, for event loops. Nullopt: do it on a CPU pool; `attributes` are moved
  // from unless it is.
  std::optional<Result<Prepared>> PrepareIfQuick(const std::string& request_id, prompt::Api api,
                                                 std::string_view body,
                                                 RequestAttributes& attributes) const;
  // The same without tokens (deadline passed, pool full, api routed by load); `note` says why.
  Result<Prepared> PrepareByLoad(std::string request_id, prompt::Api api, std::string_view body,
                                 std::string note, RequestAttributes attributes = {}) const;
  // A request without a body.
  Prepared PrepareBodiless(std::string request_id, RequestAttributes attributes) const;

  // Whether Foresee may be of use for bodies of this API now. Cheap.
  bool Foresees(prompt::Api api) const;
  // Learns what can be told of a body from its beginning, so that Prepare is quicker when the rest
  // of it has arrived, and says the same. How many bytes of text were not known before. Any thread,
  // best one of a CPU pool: it takes as long as Prepare.
  size_t Foresee(prompt::Api api, std::string_view begun) const;

  // Objectives and model rewrites from now on; never null.
  void SetPolicies(std::shared_ptr<const Policies> policies);

  // kNotFound: no endpoint serves the model (404). kUnavailable: none is healthy, or none of the
  // subset is there (503). kOutOfBounds: filters left none, or the request is sheddable and the
  // candidates are saturated (429). `exclude`: endpoints already tried for this request.
  Result<Outcome> Decide(Prepared& request, const std::vector<fleet::EndpointId>& exclude = {});

  // The decision this body would get; nothing is booked, counted or kept.
  Result<DecisionRecord> Explain(prompt::Api api, std::string_view body) const;
  Result<std::vector<TokenizedView>> Tokenize(prompt::Api api, std::string_view body) const;
  std::optional<DecisionRecord> FindRecord(const std::string& request_id) const;
  std::vector<DecisionRecord> NewestRecords(size_t count) const;
  PredictionStats Predictions(fleet::EndpointId endpoint) const;

  void Tick();

  // The beat's figures, counters since start.
  struct LookupStats {
    uint64_t lookups = 0;
    uint64_t hits = 0;
    uint64_t latency_count = 0;
    double latency_sum_s = 0;
  };
  LookupStats lookup_stats() const;

 private:
  class Reading;
  Result<Prepared> Read(std::string request_id, prompt::Api api, std::string_view body,
                        const Reading& reading, RequestAttributes attributes) const;
  void Estimate(Prepared& prepared, std::string_view body) const;
  // Fills in what Read leaves open. False, with nothing counted, where that is not `quick`.
  bool AddTokens(Prepared& prepared, std::string_view body, const Reading& reading,
                 bool quick) const;
  Result<Outcome> DecideBodiless(Prepared& request, const std::vector<fleet::EndpointId>& exclude);
  Outcome Book(Prepared& request, std::unique_ptr<OutcomeState> outcome);
  void CountLookup(const Prepared& request, const MatchedRequest& matched, Duration took);

  const DirectorOptions options_;
  // Shared with the outcomes still open, which may end after the Director is gone.
  std::shared_ptr<DirectorState> state_;
};

}  // namespace warmpath::routing
