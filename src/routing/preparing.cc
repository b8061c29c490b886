// Director: from a request's bytes and headers to a Prepared.
#include <fmt/format.h>

#include <random>

#include "prompt/begun_body.h"
#include "routing/attributes.h"
#include "routing/director.h"
#include "routing/state.h"

namespace warmpath::routing {
namespace {

bool HasExactTokens(prompt::Api api) {
  return api == prompt::Api::kChatCompletions || api == prompt::Api::kCompletions ||
         api == prompt::Api::kGenerate;
}

bool NamesAModel(prompt::Api api) {
  return api != prompt::Api::kTokenize && api != prompt::Api::kDetokenize &&
         api != prompt::Api::kOther;
}

// Whether the tokenizer of `encoder_model` is the one of `model`: some endpoint serves both
// (aliases and adapters share a base).
bool SharesTokenizer(const fleet::Snapshot& snapshot, const std::string& model,
                     const std::string& encoder_model) {
  if (model.empty() || encoder_model.empty() || model == encoder_model) return true;
  for (const auto& endpoint : snapshot.endpoints) {
    if (endpoint->FindModel(model) != nullptr && endpoint->FindModel(encoder_model) != nullptr)
      return true;
  }
  return false;
}

uint64_t RandomBits() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return random();
}

// The flow and the priority that the headers name.
void ApplyHeaders(Prepared& prepared, RoutingHeaders headers, const Policies& policies) {
  prepared.objective = std::move(headers.objective);
  prepared.fairness_id = std::move(headers.fairness_id);
  prepared.priority = policies.PriorityOf(prepared.objective);
}

}  // namespace

// A body read in place, in memory of the thread, and the encoder it was read with; one at a time.
class Director::Reading {
 public:
  Reading(std::shared_ptr<const LoadedEncoder> loaded, prompt::Api api, std::string_view body)
      : loaded_(std::move(loaded)),
        is_plain_(loaded_->encoder == nullptr ? prompt::ReadPlainBody(api, body, Memory())
                                              : loaded_->encoder->Read(api, body, Memory())) {}
  ~Reading() { Memory().proven.Clear(); }
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;

  // Null when the body is not plain.
  const prompt::PlainBody* plain() const { return is_plain_ ? &Memory() : nullptr; }
  const LoadedEncoder& loaded() const { return *loaded_; }

 private:
  static prompt::PlainBody& Memory() {
    thread_local prompt::PlainBody plain;
    return plain;
  }

  const std::shared_ptr<const LoadedEncoder> loaded_;
  const bool is_plain_;
};

void Director::SetPolicies(std::shared_ptr<const Policies> policies) {
  state_->metrics.ProtectModels(*policies);
  WriterLock lock(state_->policies_mutex);
  state_->policies = std::move(policies);
}

Result<Prepared> Director::Read(std::string request_id, prompt::Api api, std::string_view body,
                                const Reading& reading, RequestAttributes attributes) const {
  Prepared prepared;
  prepared.attributes = std::move(attributes);
  prepared.body_bytes = body.size();
  prepared.started = state_->deps.clock.Now();
  prepared.request_id = std::move(request_id);
  if (const prompt::PlainBody* plain = reading.plain()) {
    prepared.view = plain->view;
  } else if (auto view = prompt::ReadRequest(api, body)) {
    prepared.view = std::move(*view);
  } else if (api != prompt::Api::kOther) {
    return tl::unexpected(view.error());
  }
  const auto policies = state_->CurrentPolicies();
  RoutingHeaders headers = ReadRoutingHeaders(prepared.attributes.headers);
  const std::string& model = prepared.view.model;
  if (headers.model_rewrite.empty()) {
    prepared.target_model = model;
  } else {
    prepared.target_model = std::move(headers.model_rewrite);
  }
  ApplyHeaders(prepared, std::move(headers), *policies);
  if (!policies->rewrites.empty() && NamesAModel(api)) {
    if (model.empty() && !policies->has_generic_rule())
      return Fail(Code::kInvalidArgument, "model not found in request body");
    Policies::Rewritten rewritten = policies->Rewrite(model, RandomBits());
    if (!rewritten.rewrite.empty()) {
      prepared.target_model = std::move(rewritten.model);
      prepared.rewrite = std::move(rewritten.rewrite);
    }
  }
  return prepared;
}

void Director::Estimate(Prepared& prepared, std::string_view body) const {
  if (!state_->deps.scheduler.wants_estimated_tokens()) return;
  if (auto tokens = prompt::EstimateTokens(prepared.view.api, body, options_.estimate))
    prepared.estimated = std::move(*tokens);
}

Result<Prepared> Director::PrepareByLoad(std::string request_id, prompt::Api api,
                                         std::string_view body, std::string note,
                                         RequestAttributes attributes) const {
  const Reading reading(state_->CurrentEncoder(), api, body);
  WP_TRY(Prepared prepared, Read(std::move(request_id), api, body, reading, std::move(attributes)));
  prepared.tokens_note = std::move(note);
  Estimate(prepared, body);
  prepared.prepare_time = state_->deps.clock.Now() - prepared.started;
  return prepared;
}

Prepared Director::PrepareBodiless(std::string request_id, RequestAttributes attributes) const {
  Prepared prepared;
  prepared.attributes = std::move(attributes);
  prepared.started = state_->deps.clock.Now();
  prepared.request_id = std::move(request_id);
  prepared.bodiless = true;
  prepared.tokens_note = "a request without a body is routed by load";
  ApplyHeaders(prepared, ReadRoutingHeaders(prepared.attributes.headers),
               *state_->CurrentPolicies());
  return prepared;
}

Result<Prepared> Director::Prepare(std::string request_id, prompt::Api api, std::string_view body,
                                   RequestAttributes attributes) const {
  const Reading reading(state_->CurrentEncoder(), api, body);
  WP_TRY(Prepared prepared, Read(std::move(request_id), api, body, reading, std::move(attributes)));
  AddTokens(prepared, body, reading, /*quick=*/false);
  return prepared;
}

std::optional<Result<Prepared>> Director::PrepareIfQuick(const std::string& request_id,
                                                         prompt::Api api, std::string_view body,
                                                         RequestAttributes& attributes) const {
  if (body.size() <= options_.offload_body_bytes)
    return Prepare(request_id, api, body, std::move(attributes));
  if (body.size() > options_.known_body_bytes) return std::nullopt;
  const Reading reading(state_->CurrentEncoder(), api, body);
  if (reading.plain() == nullptr) return std::nullopt;
  auto prepared = Read(request_id, api, body, reading, std::move(attributes));
  if (!prepared) return prepared;
  if (AddTokens(*prepared, body, reading, /*quick=*/true)) return prepared;
  attributes = std::move(prepared->attributes);
  return std::nullopt;
}

bool Director::AddTokens(Prepared& prepared, std::string_view body, const Reading& reading,
                         bool quick) const {
  const prompt::Api api = prepared.view.api;
  const auto& [encoder, encoder_model, note] = reading.loaded();
  const auto keep = [&prepared](std::vector<prompt::EncodedPrompt> prompts) {
    prepared.prompts = std::move(prompts);
    prepared.tokens_known = true;
    for (const prompt::EncodedPrompt& prompt : prepared.prompts)
      prepared.prompt_tokens += prompt.token_count();
  };
  const std::string& model = prepared.target_model;
  std::string_view reason;
  if (!HasExactTokens(api)) {
    prepared.tokens_note = "this API is routed by load";
    reason = "api";
  } else if (encoder == nullptr) {
    prepared.tokens_note = note;
    reason = "no_tokenizer";
  } else if (!SharesTokenizer(*state_->deps.fleet.snapshot(), model, encoder_model)) {
    prepared.tokens_note = fmt::format("the tokenizer loaded is that of {}", encoder_model);
    reason = "other_model";
  } else if (quick) {
    if (auto prompts = encoder->EncodeKnown(api, *reading.plain(), options_.offload_new_bytes))
      keep(std::move(*prompts));
  } else if (auto prompts = encoder->Encode(api, body, reading.plain()); prompts) {
    keep(std::move(*prompts));
  } else {
    // The engine answers for itself: it refuses what it refuses, and serves what we cannot
    // tokenize.
    prepared.tokens_note = prompts.error().message;
    reason = prompts.error().code == Code::kUnsupported ? "unsupported_prompt" : "refused_prompt";
  }
  if (!prepared.tokens_known) {
    if (quick) return false;
    state_->metrics.CountInexact(std::string(reason));
    Estimate(prepared, body);
  }
  prepared.prepare_time = state_->deps.clock.Now() - prepared.started;
  state_->metrics.prepare_seconds.Observe(ToSeconds(prepared.prepare_time));
  return true;
}

bool Director::Foresees(prompt::Api api) const {
  if (api != prompt::Api::kChatCompletions && api != prompt::Api::kCompletions) return false;
  return state_->CurrentEncoder()->encoder != nullptr;
}

size_t Director::Foresee(prompt::Api api, std::string_view begun) const {
  auto loaded = state_->CurrentEncoder();
  if (loaded->encoder == nullptr) return 0;
  const std::string completed = prompt::CompleteBody(api, begun);
  const Reading reading(std::move(loaded), api, completed);
  if (reading.plain() == nullptr) return 0;
  const auto& [encoder, encoder_model, note] = reading.loaded();
  std::string model = reading.plain()->view.model;
  const auto policies = state_->CurrentPolicies();
  if (!policies->rewrites.empty()) {
    Policies::Rewritten rewritten = policies->Rewrite(model, RandomBits());
    if (!rewritten.rewrite.empty()) model = std::move(rewritten.model);
  }
  if (!SharesTokenizer(*state_->deps.fleet.snapshot(), model, encoder_model)) return 0;
  const size_t learned = encoder->Learn(api, *reading.plain());
  state_->metrics.foreseen_bytes.Add(static_cast<double>(learned));
  return learned;
}

}  // namespace warmpath::routing
