// Commands that ask a running router over its metrics port: endpoints, explain, tokenize.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>

#include "admin/render.h"
#include "app/commands.h"
#include "app/process.h"
#include "base/log.h"
#include "codec/json.h"
#include "net/http_client.h"
#include "net/percent.h"
#include "prompt/encoder.h"

namespace warmpath::app {
namespace {

constexpr Duration kTimeout = std::chrono::seconds(10);
constexpr size_t kMaxAnswer = size_t{256} << 20;

Result<std::string> ReadInput(const std::string& file) {
  if (file == "-") return std::string((std::istreambuf_iterator<char>(std::cin)), {});
  std::ifstream in(file, std::ios::binary);
  if (!in) return Fail(Code::kUnavailable, fmt::format("{}: cannot be read", file));
  return std::string((std::istreambuf_iterator<char>(in)), {});
}

// The API's answer, or an error that carries its message.
Result<codec::Json> Ask(const std::string& server, const std::string& method,
                        const std::string& target, std::string body = "") {
  WP_TRY(const net::Url url, net::ParseUrl(server));
  net::HttpRequest request;
  request.method = method;
  request.target = target;
  request.body = std::move(body);
  if (method == "POST") request.headers.Set("Content-Type", "application/json");
  auto answer = net::FetchBlocking(url, std::move(request), kTimeout, kMaxAnswer);
  if (!answer) {
    return Fail(answer.error(),
                fmt::format("asking {} (a router's metrics address; see --server)", server));
  }
  WP_TRY(codec::Json json, codec::ParseJson(answer->body));
  if (answer->status != 200) {
    const codec::Json* error = codec::Find(json, "error");
    const auto message = error == nullptr ? std::nullopt : codec::FindString(*error, "message");
    return Fail(Code::kUnavailable,
                fmt::format("{}{}: {}", server, target,
                            message.value_or(fmt::format("HTTP {}", answer->status))));
  }
  return json;
}

template <typename Render>
int Print(const Result<codec::Json>& answer, bool as_json, Render render) {
  if (!answer) return ReportError(answer.error());
  fmt::print("{}\n", as_json ? codec::DumpJson(*answer) : render(*answer));
  return kExitOk;
}

// `warmpath tokenize --tokenizer DIR`: no router needed.
int TokenizeLocally(const ClientCommand& command, prompt::Api api, const std::string& body) {
  const auto directory = prompt::FindTokenizerDirectory(command.tokenizer);
  if (!directory) return ReportError(directory.error());
  auto tokenizer = prompt::Tokenizer::Load(*directory);
  if (!tokenizer) return ReportError(tokenizer.error());
  const prompt::Encoder encoder(*tokenizer, {});
  const auto prompts = encoder.Encode(api, body);
  if (!prompts) return ReportError(prompts.error());
  for (const prompt::EncodedPrompt& prompt : *prompts) {
    if (command.json) {
      fmt::print("{{\"text\":{},\"token_ids\":[{}]}}\n", JsonQuote(prompt.text()),
                 fmt::join(prompt.ids(), ","));
    } else {
      fmt::print("{}\n{} tokens: {}\n", prompt.text(), prompt.token_count(),
                 fmt::join(prompt.ids(), " "));
    }
  }
  return kExitOk;
}

}  // namespace

int RunEndpoints(const ClientCommand& command) {
  for (;;) {
    const int code = Print(Ask(command.server, "GET", "/api/v1/endpoints"), command.json,
                           admin::RenderEndpoints);
    if (!command.follow || code != kExitOk || WaitForStopSignal(1000)) return code;
  }
}

int RunExplain(const ClientCommand& command) {
  if (!command.request_id.empty()) {
    return Print(
        Ask(command.server, "GET", "/api/v1/requests/" + net::PercentEncode(command.request_id)),
        command.json, admin::RenderExplain);
  }
  auto body = ReadInput(command.body_file);
  if (!body) return ReportError(body.error());
  return Print(Ask(command.server, "POST",
                   "/api/v1/explain?path=" + net::PercentEncode(command.path), std::move(*body)),
               command.json, admin::RenderExplain);
}

int RunTokenize(const ClientCommand& command) {
  std::string path = command.path;
  std::string body;
  if (!command.body_file.empty()) {
    auto read = ReadInput(command.body_file);
    if (!read) return ReportError(read.error());
    body = std::move(*read);
  } else {
    path = "/v1/completions";
    body = fmt::format("{{\"prompt\":{}}}", JsonQuote(command.text));
  }
  if (!command.tokenizer.empty()) return TokenizeLocally(command, prompt::ApiOfPath(path), body);
  return Print(
      Ask(command.server, "POST", "/api/v1/tokenize?path=" + net::PercentEncode(path), body),
      command.json, [](const codec::Json& answer) { return codec::DumpJson(answer); });
}

}  // namespace warmpath::app
