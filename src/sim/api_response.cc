#include "sim/api_response.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"

namespace warmpath::sim {
namespace {

struct Totals {
  size_t prompt = 0;
  size_t completion = 0;
  size_t cached = 0;
  size_t created = 0;  // prompt tokens in blocks that were not there
};

Totals Sum(const Generation& request, std::span<const Answer> answers, uint32_t block_size) {
  Totals totals;
  for (size_t p = 0; p < request.prompts.size(); ++p) {
    const size_t length = request.prompts[p].size();
    totals.prompt += length;
    size_t cached = 0;
    for (size_t i = p * request.n; i < (p + 1) * request.n && i < answers.size(); ++i) {
      totals.completion += answers[i].tokens.size();
      cached = std::max<size_t>(cached, answers[i].cached_tokens);
    }
    totals.cached += cached;
    totals.created += length / block_size * block_size - cached;
  }
  return totals;
}

std::string Ids(std::span<const kv::TokenId> ids) {
  return fmt::format("[{}]", fmt::join(ids, ","));
}

std::string Quoted(std::string_view finish_reason) {
  return finish_reason.empty() ? "null" : fmt::format("\"{}\"", finish_reason);
}

std::string Tokens(const Generation& request, std::span<const kv::TokenId> ids) {
  return request.return_token_ids ? Ids(ids) : "null";
}

std::string ChunkHead(const Generation& request, const ResponseContext& context) {
  return fmt::format(R"(data: {{"id":{},"object":"{}","created":{},"model":{},"choices":[)",
                     JsonQuote(request.id),
                     request.chat ? "chat.completion.chunk" : "text_completion", context.created,
                     JsonQuote(request.model));
}

std::string PlainUsage(size_t prompt, size_t completion) {
  return fmt::format(R"("usage":{{"prompt_tokens":{},"total_tokens":{},"completion_tokens":{}}})",
                     prompt, prompt + completion, completion);
}

}  // namespace

std::string WholeAnswer(const Generation& request, std::span<const Answer> answers,
                        const ResponseContext& context) {
  const Totals totals = Sum(request, answers, context.block_size);
  std::string body =
      fmt::format(R"({{"id":{},"object":"{}","created":{},"model":{},"choices":[)",
                  JsonQuote(request.id), request.chat ? "chat.completion" : "text_completion",
                  context.created, JsonQuote(request.model));
  for (size_t i = 0; i < answers.size(); ++i) {
    const Answer& answer = answers[i];
    if (i > 0) body += ",";
    if (request.chat) {
      body += fmt::format(
          R"({{"index":{},"message":{{"role":"assistant","content":{},"refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null}},"logprobs":null,"finish_reason":{},"stop_reason":null,"token_ids":{},"routed_experts":null}})",
          i, JsonQuote(answer.text), Quoted(answer.finish_reason), Tokens(request, answer.tokens));
    } else {
      body += fmt::format(
          R"({{"index":{},"text":{},"logprobs":null,"finish_reason":{},"stop_reason":null,"token_ids":{},"prompt_logprobs":null,"prompt_token_ids":{},"routed_experts":null}})",
          i, JsonQuote(answer.text), Quoted(answer.finish_reason), Tokens(request, answer.tokens),
          Tokens(request, request.prompts[i / request.n]));
    }
  }
  body += fmt::format(
      R"(],"service_tier":null,"system_fingerprint":{},"usage":{{"prompt_tokens":{},"total_tokens":{},"completion_tokens":{},"prompt_tokens_details":)",
      JsonQuote(context.fingerprint), totals.prompt, totals.prompt + totals.completion,
      totals.completion);
  body += context.prompt_tokens_details
              ? fmt::format(
                    R"({{"cached_tokens":{},"created_cache_tokens":{},"multimodal_tokens":null}})",
                    totals.cached, request.chat ? std::to_string(totals.created) : "null")
              : "null";
  body += R"(,"completion_tokens_details":null})";
  if (request.chat) {
    body += fmt::format(R"(,"prompt_logprobs":null,"prompt_token_ids":{},"prompt_text":null)",
                        Tokens(request, request.prompts[0]));
  }
  body += R"(,"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null})";
  return body;
}

std::string StreamOpening(const Generation& request, const ResponseContext& context) {
  if (!request.chat) return "";
  std::string text;
  for (uint32_t i = 0; i < request.n; ++i) {
    text += ChunkHead(request, context);
    text += fmt::format(
        R"({{"index":{},"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}])",
        i);
    if (request.continuous_usage) text += "," + PlainUsage(request.prompts[0].size(), 0);
    text += fmt::format(R"(,"prompt_token_ids":{},"prompt_text":null}})",
                        Tokens(request, request.prompts[0]));
    text += "\n\n";
  }
  return text;
}

std::string StreamToken(const Generation& request, const Answer& answer, size_t index,
                        std::string_view text, bool last, const ResponseContext& context) {
  std::string chunk = ChunkHead(request, context);
  const std::string ids = Tokens(request, std::span(answer.tokens).last(1));
  const auto& prompt = request.prompts[index / request.n];
  if (request.chat) {
    chunk +=
        fmt::format(R"({{"index":{},"delta":{{"content":{}}},"logprobs":null,"finish_reason":{},)",
                    index, JsonQuote(text), Quoted(answer.finish_reason));
    if (!answer.finish_reason.empty()) chunk += R"("stop_reason":null,)";
    chunk += fmt::format(R"("token_ids":{}}}])", ids);
  } else {
    chunk += fmt::format(
        R"({{"index":{},"text":{},"logprobs":null,"finish_reason":{},"stop_reason":null,"prompt_token_ids":{},"token_ids":{}}}])",
        index, JsonQuote(text), Quoted(answer.finish_reason),
        answer.tokens.size() == 1 ? Tokens(request, prompt) : "null", ids);
  }
  if (request.continuous_usage) chunk += "," + PlainUsage(prompt.size(), answer.tokens.size());
  if (last && !request.include_usage)
    chunk += fmt::format(R"(,"system_fingerprint":{})", JsonQuote(context.fingerprint));
  chunk += "}\n\n";
  return chunk;
}

std::string StreamEnd(const Generation& request, std::span<const Answer> answers,
                      const ResponseContext& context) {
  std::string text;
  if (request.include_usage) {
    const Totals totals = Sum(request, answers, context.block_size);
    text = ChunkHead(request, context);
    text +=
        fmt::format(R"(],"usage":{{"prompt_tokens":{},"total_tokens":{},"completion_tokens":{})",
                    totals.prompt, totals.prompt + totals.completion, totals.completion);
    if (context.prompt_tokens_details) {
      text += fmt::format(R"(,"prompt_tokens_details":{{"cached_tokens":{})", totals.cached);
      if (request.chat) text += fmt::format(R"(,"created_cache_tokens":{})", totals.created);
      text += "}";
    }
    text += fmt::format("}},\"system_fingerprint\":{}}}\n\n", JsonQuote(context.fingerprint));
  }
  text += "data: [DONE]\n\n";
  return text;
}

}  // namespace warmpath::sim
