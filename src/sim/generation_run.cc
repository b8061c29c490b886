#include "sim/generation_run.h"

#include <algorithm>
#include <span>

namespace warmpath::sim {
namespace {

constexpr uint32_t kShortestTurn = 16;
constexpr uint32_t kTurnSpread = 113;

}  // namespace

GenerationRun::GenerationRun(std::shared_ptr<net::HttpExchange> exchange, Generation request,
                             ResponseContext context, std::shared_ptr<const TextModel> text,
                             SimMetrics& metrics, net::Headers headers)
    : exchange_(std::move(exchange)),
      request_(std::move(request)),
      context_(std::move(context)),
      text_(std::move(text)),
      metrics_(metrics),
      headers_(std::move(headers)),
      arrival_(SystemClock().Now()) {}

void GenerationRun::Start(uint64_t seed, uint32_t max_model_len, const RankPicker& pick) {
  auto self = shared_from_this();
  exchange_->OnClose([weak = weak_from_this()] {
    if (auto run = weak.lock()) run->OnGone();
  });
  const size_t count = request_.prompts.size() * request_.n;
  unfinished_ = count;
  sequences_.resize(count);
  answers_.resize(count);
  for (size_t i = 0; i < count; ++i) {
    const TextModel::Tokens& prompt = request_.prompts[i / request_.n];
    const auto choice = static_cast<uint32_t>(i % request_.n);
    Sequence& sequence = sequences_[i];
    if (choice == 0) {
      const auto picked = pick(request_);
      sequence.rank = picked.first;
      sequence.driver = picked.second;
    } else {
      sequence.rank = sequences_[i - 1].rank;
      sequence.driver = sequences_[i - 1].driver;
    }
    const uint64_t key = TextModel::OutputKey(seed, prompt, choice);
    const uint32_t room = max_model_len - static_cast<uint32_t>(prompt.size());
    uint32_t tokens = request_.max_tokens.value_or(room);
    sequence.end_reason = "length";
    if (!request_.max_tokens && !request_.ignore_eos) {
      const auto turn = static_cast<uint32_t>(kShortestTurn + key % kTurnSpread);
      if (turn <= room) {
        tokens = turn;
        sequence.end_reason = "stop";
      }
    }
    CoreRequest core;
    core.prompt = prompt;
    core.max_tokens = std::min(tokens, room);
    core.scope = request_.scope;
    core.read_cache = request_.read_cache;
    core.report_reused = request_.report_reused;
    core.output = [text = text_, key](uint32_t index) { return text->OutputToken(key, index); };
    sequence.id = sequence.driver->Submit(
        std::move(core), [self, i](const TokenOutput& output) { self->OnToken(i, output); });
  }
}

void GenerationRun::OnToken(size_t index, const TokenOutput& output) {
  Sequence& sequence = sequences_[index];
  Answer& answer = answers_[index];
  const TimePoint now = SystemClock().Now();
  if (output.index == 0) {
    metrics_.FirstToken(sequence.rank, now - arrival_);
  } else {
    metrics_.NextToken(sequence.rank, now - sequence.last_token);
  }
  sequence.last_token = now;
  answer.cached_tokens = output.cached_tokens;
  answer.tokens.push_back(output.token);
  std::string piece = text_->Decode(std::span(&output.token, 1));
  if (output.index == 0 && request_.echo)
    piece = text_->Decode(request_.prompts[index / request_.n]) + piece;
  if (output.finished) {
    answer.finish_reason = sequence.end_reason;
    metrics_.Finished(sequence.rank, sequence.end_reason, now - arrival_);
    --unfinished_;
  }
  if (!request_.stream) {
    answer.text += piece;
    if (unfinished_ > 0) return;
    headers_.Add("content-type", "application/json");
    exchange_->Respond(200, std::move(headers_), WholeAnswer(request_, answers_, context_));
    return;
  }
  std::string chunk;
  if (!streaming_) {
    streaming_ = true;
    headers_.Add("content-type", "text/event-stream; charset=utf-8");
    exchange_->Begin(200, std::move(headers_));
    chunk = StreamOpening(request_, context_);
  }
  chunk += StreamToken(request_, answer, index, piece, unfinished_ == 0, context_);
  if (unfinished_ == 0) chunk += StreamEnd(request_, answers_, context_);
  exchange_->Write(chunk);
  if (unfinished_ == 0) exchange_->End();
}

void GenerationRun::OnGone() {
  for (size_t i = 0; i < sequences_.size(); ++i) {
    Sequence& sequence = sequences_[i];
    if (sequence.driver == nullptr || !answers_[i].finish_reason.empty()) continue;
    sequence.driver->Abort(sequence.id);
    metrics_.Aborted(sequence.rank);
  }
}

}  // namespace warmpath::sim
