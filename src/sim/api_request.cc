#include "sim/api_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/hash.h"
#include "base/log.h"
#include "base/units.h"

namespace warmpath::sim {
namespace {

using codec::Find;
using codec::FindBool;
using codec::FindString;
using codec::Json;

constexpr uint32_t kDefaultCompletionTokens = 16;
constexpr size_t kMaxRequestId = 256;
constexpr int64_t kMaxChoices = 16384;
constexpr int64_t kMaxLogprobs = 20;

tl::unexpected<ApiError> Refuse(ApiError error) {
  return tl::unexpected(std::move(error));
}
tl::unexpected<ApiError> Refuse(std::string_view message, std::string_view param = "") {
  return Refuse(EngineError(400, message, param));
}

// A value as the engine prints it in its complaints.
std::string Input(const Json& value) {
  if (value.is_string()) return std::string(value.get_string());
  if (value.is_null()) return "None";
  if (value.is_bool()) return value.get_bool() ? "True" : "False";
  if (value.is_array()) return fmt::format("<list of {} items>", value.get_array().size());
  if (value.is_object()) return fmt::format("<dict of {} items>", value.get_object().size());
  return codec::DumpJson(value);
}

const Json* Present(const Json& body, std::string_view key) {
  const Json* value = Find(body, key);
  return value != nullptr && !value->is_null() ? value : nullptr;
}

// Whole number, or a string or float that is one.
ApiResult<std::optional<int64_t>> ReadInt(const Json& body, std::string_view key) {
  const Json* value = Present(body, key);
  if (value == nullptr) return std::nullopt;
  const std::string location = fmt::format("body.{}", key);
  if (value->is_string()) {
    if (auto number = ParseInt(std::string_view(value->get_string()))) return *number;
    return Refuse(ValidationError(
        "int_parsing", location,
        "Input should be a valid integer, unable to parse string as an integer", Input(*value)));
  }
  if (auto number = codec::FindInt(body, key)) return *number;
  if (value->is_double()) {
    return Refuse(ValidationError(
        "int_from_float", location,
        "Input should be a valid integer, got a number with a fractional part", Input(*value)));
  }
  return Refuse(
      ValidationError("int_type", location, "Input should be a valid integer", Input(*value)));
}

ApiResult<std::optional<double>> ReadDouble(const Json& body, std::string_view key) {
  const Json* value = Present(body, key);
  if (value == nullptr) return std::nullopt;
  if (auto number = codec::FindDouble(body, key)) return *number;
  const std::string location = fmt::format("body.{}", key);
  if (value->is_string()) {
    if (auto number = ParseDouble(std::string_view(value->get_string()))) return *number;
    return Refuse(ValidationError(
        "float_parsing", location,
        "Input should be a valid number, unable to parse string as a number", Input(*value)));
  }
  return Refuse(
      ValidationError("float_type", location, "Input should be a valid number", Input(*value)));
}

ApiResult<bool> ReadBool(const Json& body, std::string_view key) {
  const Json* value = Present(body, key);
  if (value == nullptr) return false;
  if (value->is_bool()) return value->get_bool();
  if (value->is_string()) {
    const std::string text = ToLower(std::string_view(value->get_string()));
    for (std::string_view yes : {"true", "1", "yes", "on", "t", "y"}) {
      if (text == yes) return true;
    }
    for (std::string_view no : {"false", "0", "no", "off", "f", "n"}) {
      if (text == no) return false;
    }
  }
  return Refuse(ValidationError("bool_parsing", fmt::format("body.{}", key),
                                "Input should be a valid boolean, unable to interpret input",
                                Input(*value)));
}

// As Python prints a float.
std::string PythonFloat(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

ApiResult<std::shared_ptr<const CacheScope>> ReadScope(const Json& body,
                                                       const net::Headers& headers,
                                                       const LoraModule* lora,
                                                       const ApiContext& context) {
  auto scope = std::make_shared<CacheScope>();
  if (lora != nullptr) {
    scope->lora_name = lora->name;
    scope->lora_path = lora->path;
    scope->lora_id = lora - context.loras.data() + 1;
  }
  if (auto salt = FindString(body, "cache_salt")) scope->cache_salt = *salt;
  if (auto session = FindString(body, "session_id")) {
    scope->session_id = *session;
  } else if (auto header = headers.Get("x-session-id")) {
    scope->session_id = *header;
  }
  return scope;
}

// What the engine checks of a body before it looks at the model.
tl::expected<void, ApiError> CheckFirst(bool chat, const Json& body) {
  if (const Json* salt = Present(body, "cache_salt")) {
    if (!salt->is_string() || salt->get_string().empty()) {
      return Refuse(
          "Parameter 'cache_salt' must be a non-empty string if provided. (parameter=cache_salt)",
          "cache_salt");
    }
    const std::string_view text = salt->get_string();
    if (text.size() > 128 * 4 ||
        std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }) > 128 ||
        text.find_first_of(std::string_view("@/\\\0", 4)) != std::string_view::npos) {
      return Refuse(
          "Parameter 'cache_salt' must be at most 128 characters and must not contain '@', '/', "
          "'\\\\', or "
          "NUL. (parameter=cache_salt)",
          "cache_salt");
    }
  }
  if (Present(body, "stream_options") != nullptr && !FindBool(body, "stream").value_or(false)) {
    return Refuse(
        "Stream options can only be defined when `stream=True`. (parameter=stream_options)",
        "stream_options");
  }
  if (const Json* model = Present(body, "model"); model != nullptr && !model->is_string()) {
    return Refuse(ValidationError("string_type", "body.model", "Input should be a valid string",
                                  Input(*model)));
  }
  if (!chat) {
    const Json* prompt = Present(body, "prompt");
    if (prompt == nullptr || (prompt->is_string() && prompt->get_string().empty())) {
      return Refuse(
          "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)",
          "prompt");
    }
    return {};
  }
  const Json* messages = Find(body, "messages");
  if (messages == nullptr) {
    return Refuse(ValidationError("missing", "body.messages", "Field required", Input(body)));
  }
  if (!messages->is_array()) {
    return Refuse(ValidationError("list_type", "body.messages", "Input should be a valid list",
                                  Input(*messages)));
  }
  if (Present(body, "chat_template") != nullptr) {
    return Refuse(
        "Chat template is passed with request, but --trust-request-chat-template is not set. "
        "Refused request "
        "with untrusted chat template.");
  }
  if (FindBool(body, "add_generation_prompt").value_or(false) &&
      FindBool(body, "continue_final_message").value_or(false)) {
    return Refuse("Cannot set both `continue_final_message` and `add_generation_prompt` to True.");
  }
  const Json* tools = Present(body, "tools");
  if (tools != nullptr && tools->is_array() && tools->get_array().empty()) {
    return Refuse(
        "`tools` must not be an empty array. Either provide at least one tool or omit the field "
        "entirely. "
        "(parameter=tools)",
        "tools");
  }
  const Json* choice = Present(body, "tool_choice");
  if (choice != nullptr && tools == nullptr &&
      !(choice->is_string() && choice->get_string() == "none")) {
    return Refuse("When using `tool_choice`, `tools` must be set. (parameter=tool_choice)",
                  "tool_choice");
  }
  if (choice != nullptr && choice->is_object() && tools != nullptr && tools->is_array()) {
    const Json* wanted = Find(*choice, "function");
    const std::string_view name = wanted == nullptr ? "" : FindString(*wanted, "name").value_or("");
    const bool known = std::ranges::any_of(tools->get_array(), [&](const Json& tool) {
      const Json* function = Find(tool, "function");
      return function != nullptr && FindString(*function, "name").value_or("") == name;
    });
    if (!known) {
      return Refuse(
          "The tool specified in `tool_choice` does not match any of the specified `tools` "
          "(parameter=tool_choice)",
          "tool_choice");
    }
  }
  if (messages->get_array().empty()) {
    return Refuse(
        "Cannot apply chat template to an empty conversation. Provide at least one message.");
  }
  return {};
}

tl::expected<void, ApiError> CheckPromptIds(const Json& prompt, uint32_t vocab_size) {
  if (!prompt.is_array()) {
    if (prompt.is_string()) return {};
    return Refuse(ValidationError("string_type", "body.prompt", "Input should be a valid string",
                                  Input(prompt)));
  }
  const auto& list = prompt.get_array();
  if (list.empty()) return Refuse("You must pass at least one prompt");
  const bool nested = list[0].is_array();
  const bool strings = list[0].is_string();
  for (size_t i = 0; i < list.size(); ++i) {
    const Json& item = list[i];
    const std::string location = fmt::format("body.prompt.{}", i);
    if (strings) {
      if (!item.is_string()) {
        return Refuse(ValidationError("string_type", location, "Input should be a valid string",
                                      Input(item)));
      }
      continue;
    }
    if (nested) {
      if (!item.is_array()) {
        return Refuse(
            ValidationError("list_type", location, "Input should be a valid list", Input(item)));
      }
      if (item.get_array().empty()) return Refuse("The decoder prompt cannot be empty");
      if (item.get_array()[0].is_array()) {
        return Refuse(ValidationError("int_type", location + ".0",
                                      "Input should be a valid integer",
                                      Input(item.get_array()[0])));
      }
      if (auto checked = CheckPromptIds(item, vocab_size); !checked) return checked;
      continue;
    }
    if (item.is_int64() && item.get_int64() < 0) {
      return Refuse(ValidationError("greater_than_equal", location,
                                    "Input should be greater than or equal to 0", Input(item),
                                    "{'ge': 0}"));
    }
    if (item.is_double() && std::floor(item.get_double()) != item.get_double()) {
      return Refuse(ValidationError(
          "int_from_float", location,
          "Input should be a valid integer, got a number with a fractional part", Input(item)));
    }
    if (!item.is_number()) {
      return Refuse(
          ValidationError("int_type", location, "Input should be a valid integer", Input(item)));
    }
    if (!item.is_int64() || item.get_int64() >= vocab_size) {
      return Refuse(fmt::format("Token id {} is out of vocabulary", codec::DumpJson(item)));
    }
  }
  return {};
}

tl::expected<void, ApiError> CheckSampling(const Json& body, Generation& generation,
                                           const ApiContext& context) {
  const bool chat = generation.chat;
  auto max_tokens = ReadInt(body, "max_tokens");
  if (!max_tokens) return Refuse(max_tokens.error());
  if (chat) {
    auto newer = ReadInt(body, "max_completion_tokens");
    if (!newer) return Refuse(newer.error());
    if (*newer) max_tokens = newer;
  }
  auto temperature = ReadDouble(body, "temperature");
  if (!temperature) return Refuse(temperature.error());
  auto top_p = ReadDouble(body, "top_p");
  if (!top_p) return Refuse(top_p.error());
  auto n = ReadInt(body, "n");
  if (!n) return Refuse(n.error());
  auto stream = ReadBool(body, "stream");
  if (!stream) return Refuse(stream.error());
  auto min_tokens = ReadInt(body, "min_tokens");
  if (!min_tokens) return Refuse(min_tokens.error());
  generation.stream = *stream;

  if (*max_tokens) {
    const int64_t value = **max_tokens;
    if (value > context.max_model_len) {
      return Refuse(
          fmt::format(
              "max_tokens={0} cannot be greater than max_model_len={1}. Please request fewer "
              "output tokens. (parameter=max_tokens, value={0})",
              value, context.max_model_len),
          "max_tokens");
    }
    if (value < 1) {
      return Refuse(
          fmt::format("max_tokens must be at least 1, got {0}. (parameter=max_tokens, value={0})",
                      value),
          "max_tokens");
    }
    generation.max_tokens = static_cast<uint32_t>(value);
  } else if (!chat) {
    generation.max_tokens = kDefaultCompletionTokens;
  }
  if (*temperature && **temperature < 0) {
    return Refuse(
        fmt::format("temperature must be non-negative, got {0}. (parameter=temperature, value={0})",
                    PythonFloat(**temperature)),
        "temperature");
  }
  if (*top_p && (**top_p <= 0 || **top_p > 1)) {
    return Refuse(fmt::format("top_p must be in (0, 1], got {0}. (parameter=top_p, value={0})",
                              PythonFloat(**top_p)),
                  "top_p");
  }
  if (*n && **n < 1) return Refuse(fmt::format("n must be at least 1, got {}.", **n));
  if (*n && **n > kMaxChoices) {
    return Refuse(fmt::format(
        "n must be at most {}, got {}. To increase this limit, set the VLLM_MAX_N_SEQUENCES "
        "environment variable.",
        kMaxChoices, **n));
  }
  generation.n = static_cast<uint32_t>(n->value_or(1));
  if (*min_tokens && generation.max_tokens && **min_tokens > *generation.max_tokens) {
    return Refuse(fmt::format("min_tokens must be less than or equal to max_tokens={}, got {}.",
                              *generation.max_tokens, **min_tokens));
  }
  if (!chat && codec::FindInt(body, "logprobs").value_or(0) > kMaxLogprobs) {
    const int64_t value = *codec::FindInt(body, "logprobs");
    return Refuse(
        fmt::format("Requested sample logprobs of {0}, which is greater than max allowed: {1} "
                    "(parameter=logprobs, value={0})",
                    value, kMaxLogprobs),
        "logprobs");
  }
  if (const int64_t keep = codec::FindInt(body, "truncate_prompt_tokens").value_or(-1); keep < -1) {
    return Refuse(ValidationError("greater_than_equal", "body.truncate_prompt_tokens",
                                  "Input should be greater than or equal to -1",
                                  std::to_string(keep), "{'ge': -1}"));
  }
  if (const Json* format = Present(body, "response_format");
      format != nullptr && FindString(*format, "type").value_or("") == "json_schema" &&
      Present(*format, "json_schema") == nullptr) {
    return Refuse(
        "When response_format type is 'json_schema', the 'json_schema' field must be provided. "
        "(parameter=response_format)",
        "response_format");
  }
  if (const Json* bias = Present(body, "logit_bias"); bias != nullptr && bias->is_object()) {
    for (const auto& [id, weight] : bias->get_object()) {
      const auto token = ParseInt(std::string_view(id));
      if (!token || (*token >= 0 && *token < context.text->vocab_size())) continue;
      return Refuse(
          fmt::format(
              "token_id(s) [{0}] in logit_bias contain out-of-vocab token ids. Vocabulary size: "
              "{1} (parameter=logit_bias, value=[{0}])",
              *token, context.text->vocab_size()),
          "logit_bias");
    }
  }
  if (!chat && FindString(body, "suffix").value_or("") != "") {
    return Refuse("suffix is only supported for models with FIM completion rendering", "suffix");
  }
  if (chat && codec::FindInt(body, "top_logprobs").value_or(0) > 0 &&
      !FindBool(body, "logprobs").value_or(false)) {
    return Refuse(
        "when using `top_logprobs`, `logprobs` must be set to true. (parameter=top_logprobs)",
        "top_logprobs");
  }
  return {};
}

tl::expected<void, ApiError> CheckLengths(const Generation& generation, const ApiContext& context) {
  for (const auto& prompt : generation.prompts) {
    const size_t length = prompt.size();
    if (length == 0) return Refuse("The decoder prompt cannot be empty");
    if (length >= context.max_model_len) {
      return Refuse(
          fmt::format(
              "This model's maximum context length is {} tokens. However, your prompt contains {} "
              "input tokens, which exceeds this limit even without any output tokens. Please "
              "reduce the length of the input prompt. (parameter=input_tokens, value={})",
              context.max_model_len, length, length),
          "input_tokens");
    }
    if (generation.max_tokens && length + *generation.max_tokens > context.max_model_len) {
      return Refuse(
          fmt::format(
              "This model's maximum context length is {} tokens. However, you requested {} output "
              "tokens and your prompt contains {} input tokens, for a total of {} tokens. Please "
              "reduce the length of the input prompt or the number of requested output tokens. "
              "(parameter=input_tokens, value={})",
              context.max_model_len, *generation.max_tokens, length,
              length + *generation.max_tokens, length),
          "input_tokens");
    }
  }
  return {};
}

std::string RequestId(bool chat, const net::Headers& headers) {
  const std::string_view prefix = chat ? "chatcmpl-" : "cmpl-";
  if (auto given = headers.Get("x-request-id");
      given && !given->empty() && given->size() <= kMaxRequestId) {
    return fmt::format("{}{}", prefix, *given);
  }
  std::string uuid = RandomUuid();
  std::erase(uuid, '-');
  return fmt::format("{}{}", prefix, uuid.substr(0, 16));
}

}  // namespace

ApiError EngineError(int status, std::string_view message, std::string_view param) {
  const std::string_view type = status == 404   ? "NotFoundError"
                                : status == 403 ? "PermissionDeniedError"
                                : status >= 500 ? "InternalServerError"
                                                : "BadRequestError";
  return {status,
          fmt::format(R"({{"error":{{"message":{},"type":"{}","param":{},"code":{}}}}})",
                      JsonQuote(message), type, param.empty() ? "null" : JsonQuote(param), status)};
}

ApiError ValidationError(std::string_view type, std::string_view location, std::string_view message,
                         std::string_view input, std::string_view context) {
  std::string text =
      fmt::format("1 validation error:\n  {{'type': '{}', 'loc': '{}', 'msg': '{}', 'input': '{}'",
                  type, location, message, input);
  if (!context.empty()) text += fmt::format(", 'ctx': {}", context);
  text += "}";
  return {400,
          fmt::format(R"({{"error":{{"message":{},"type":"Bad Request","param":{},"code":400}}}})",
                      JsonQuote(text), JsonQuote(location))};
}

ApiResult<Json> ParseBody(const net::HttpRequest& request) {
  const auto content_type = request.headers.Get("content-type");
  if (content_type) {
    const std::string_view media = Trim(Split(*content_type, ';')[0]);
    if (!EqualsIgnoreCase(media, "application/json")) {
      return Refuse(ApiError{
          400,
          R"({"error":{"message":"1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed","type":"Bad Request","param":null,"code":400}})"});
    }
  }
  if (request.body.empty())
    return Refuse(ValidationError("missing", "body", "Field required", "None"));
  auto json = codec::ParseJson(request.body);
  if (!json) {
    // Where the text goes wrong, by the parser's own count.
    const std::string& message = json.error().message;
    std::string position = "0";
    if (const size_t at = message.find("byte "); at != std::string::npos) {
      const size_t end = message.find_first_not_of("0123456789", at + 5);
      position = message.substr(at + 5, end == std::string::npos ? end : end - at - 5);
    }
    return Refuse(ValidationError("json_invalid", "body." + position, "JSON decode error",
                                  "<dict of 0 items>", "{'error': 'Expecting value'}"));
  }
  if (json->is_null()) return Refuse(ValidationError("missing", "body", "Field required", "None"));
  if (!json->is_object()) {
    return Refuse(ValidationError(
        "model_attributes_type", "body",
        "Input should be a valid dictionary or object to extract fields from", Input(*json)));
  }
  return std::move(*json);
}

ApiResult<const LoraModule*> FindModel(const Json& body, const ApiContext& context) {
  const std::string_view model = FindString(body, "model").value_or("");
  if (model.empty() || std::ranges::find(context.model_names, model) != context.model_names.end())
    return nullptr;
  for (const LoraModule& lora : context.loras) {
    if (lora.name == model) return &lora;
  }
  return Refuse(EngineError(404,
                            fmt::format("The model `{}` does not exist. Valid aliases: {}.", model,
                                        fmt::join(context.model_names, ", ")),
                            "model"));
}

ApiResult<Generation> ParseGeneration(bool chat, const net::HttpRequest& request,
                                      const ApiContext& context) {
  auto body = ParseBody(request);
  if (!body) return Refuse(body.error());
  Generation generation;
  generation.chat = chat;
  if (auto checked = CheckFirst(chat, *body); !checked) return Refuse(checked.error());
  auto lora = FindModel(*body, context);
  if (!lora) return Refuse(lora.error());
  if (auto checked = CheckSampling(*body, generation, context); !checked)
    return Refuse(checked.error());
  if (auto rank = request.headers.Get("x-data-parallel-rank")) {
    if (auto number = ParseInt(*rank)) {
      if (*number < 0 || *number >= context.ranks) {
        return Refuse(
            fmt::format("data_parallel_rank {} is out of range [0, {}).", *number, context.ranks));
      }
      generation.rank = static_cast<uint32_t>(*number);
    }
  }
  if (!chat) {
    if (auto checked = CheckPromptIds(*Find(*body, "prompt"), context.text->vocab_size());
        !checked) {
      return Refuse(checked.error());
    }
  }
  const prompt::Api api = chat ? prompt::Api::kChatCompletions : prompt::Api::kCompletions;
  auto prompts = context.text->Encode(api, request.body);
  if (!prompts) return Refuse(prompts.error().message);
  generation.prompts = std::move(*prompts);
  if (const Json* params = chat ? Present(*body, "kv_transfer_params") : nullptr) {
    // Ids given with a chat replace its prompt.
    if (const Json* ids = Present(*params, "prompt_token_ids"); ids != nullptr && ids->is_array()) {
      if (auto checked = CheckPromptIds(*ids, context.text->vocab_size()); !checked)
        return Refuse(checked.error());
      TextModel::Tokens tokens;
      for (const Json& id : ids->get_array()) {
        if (id.is_int64()) tokens.push_back(static_cast<kv::TokenId>(id.get_int64()));
      }
      generation.prompts = {std::move(tokens)};
    }
  }
  if (const int64_t keep = codec::FindInt(*body, "truncate_prompt_tokens").value_or(0); keep > 0) {
    for (auto& prompt : generation.prompts) {
      if (prompt.size() > static_cast<size_t>(keep))
        prompt.erase(prompt.begin(), prompt.end() - keep);
    }
  }
  if (auto checked = CheckLengths(generation, context); !checked) return Refuse(checked.error());
  auto scope = ReadScope(*body, request.headers, *lora, context);
  if (!scope) return Refuse(scope.error());
  generation.scope = std::move(*scope);

  generation.id = RequestId(chat, request.headers);
  generation.model =
      *lora != nullptr ? (*lora)->name : std::string(FindString(*body, "model").value_or(""));
  if (generation.model.empty()) generation.model = context.model_names.front();
  generation.ignore_eos = FindBool(*body, "ignore_eos").value_or(false);
  generation.return_token_ids = FindBool(*body, "return_token_ids").value_or(false);
  generation.echo = !chat && FindBool(*body, "echo").value_or(false);
  if (const Json* options = Present(*body, "stream_options")) {
    generation.include_usage = FindBool(*options, "include_usage").value_or(false);
    generation.continuous_usage =
        generation.include_usage && FindBool(*options, "continuous_usage_stats").value_or(false);
  }
  // Log probabilities of the prompt need every token computed.
  generation.read_cache = Present(*body, "prompt_logprobs") == nullptr &&
                          !(generation.echo && Present(*body, "logprobs") != nullptr);
  if (const Json* xargs = Present(*body, "vllm_xargs")) {
    generation.report_reused = FindString(*xargs, "kv_cache_report_mode").value_or("") == "full";
  }
  return generation;
}

}  // namespace warmpath::sim
