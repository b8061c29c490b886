// One client request while it runs: its sequences in the cores, and the answer as it grows.
//
// Loop-confined; keeps itself alive until it is answered or the client went away.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "net/http_server.h"
#include "sim/api_request.h"
#include "sim/api_response.h"
#include "sim/rank_driver.h"
#include "sim/sim_metrics.h"
#include "sim/text_model.h"

namespace warmpath::sim {

class GenerationRun : public std::enable_shared_from_this<GenerationRun> {
 public:
  using RankPicker = std::function<std::pair<uint32_t, RankDriver*>(const Generation&)>;

  // `headers` are those of any answer, without a content type. `metrics` outlives it.
  GenerationRun(std::shared_ptr<net::HttpExchange> exchange, Generation request,
                ResponseContext context, std::shared_ptr<const TextModel> text, SimMetrics& metrics,
                net::Headers headers);

  // Submits every sequence. A chat without a token limit says between 16 and 128 tokens and stops,
  // unless ignore_eos.
  void Start(uint64_t seed, uint32_t max_model_len, const RankPicker& pick);

 private:
  struct Sequence {
    RankDriver* driver = nullptr;
    uint32_t rank = 0;
    uint64_t id = 0;
    std::string_view end_reason;
    TimePoint last_token;
  };

  void OnToken(size_t index, const TokenOutput& output);
  void OnGone();

  std::shared_ptr<net::HttpExchange> exchange_;
  Generation request_;
  ResponseContext context_;
  std::shared_ptr<const TextModel> text_;
  SimMetrics& metrics_;
  net::Headers headers_;
  TimePoint arrival_;
  std::vector<Sequence> sequences_;
  std::vector<Answer> answers_;
  size_t unfinished_ = 0;
  bool streaming_ = false;
};

}  // namespace warmpath::sim
