#include <fmt/format.h>

#include "codec/json.h"
#include "k8s/api.h"

namespace warmpath::k8s {
namespace {

constexpr size_t kMaxMessage = 500;

}  // namespace

std::string AnswerError(const ApiAnswer& answer) {
  const auto body = codec::ParseJson(answer.body);
  std::string message(body ? codec::FindString(*body, "message").value_or("") : answer.body);
  if (message.size() > kMaxMessage) {
    message.resize(kMaxMessage);
    message += "...";
  }
  for (char& c : message) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  if (message.empty()) return fmt::format("{}: no reason given", answer.status);
  return fmt::format("{}: {}", answer.status, message);
}

}  // namespace warmpath::k8s
