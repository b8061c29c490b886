#include "k8s/credentials.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/units.h"
#include "net/small_file.h"

namespace warmpath::k8s {
namespace {

constexpr size_t kMaxToken = 64 << 10;
constexpr Duration kReadAgain = std::chrono::minutes(1);

Status CheckToken(const std::string& token, const std::string& where) {
  const auto visible = [](char c) { return c > ' ' && c <= '~'; };
  if (!token.empty() && std::ranges::all_of(token, visible)) return {};
  return Fail(Code::kInvalidArgument, where + ": no bearer token");
}

}  // namespace

Result<std::string> Credentials::Read(const std::string& file) {
  WP_TRY(const std::string text, net::ReadSmallFile(file, kMaxToken));
  std::string token(Trim(text));
  WP_RETURN_IF_ERROR(CheckToken(token, file));
  return token;
}

Result<Credentials> Credentials::Create(const ClusterConfig& config, TimePoint now) {
  Credentials credentials(config.token_file, config.token);
  if (!config.token.empty()) {
    WP_RETURN_IF_ERROR(CheckToken(config.token, config.source));
  }
  if (config.token_file.empty()) return credentials;
  auto token = Read(config.token_file);
  credentials.read_ = now;
  if (token) {
    credentials.token_ = std::move(*token);
  } else if (config.token.empty()) {
    return Fail(token.error(), config.source);
  }
  return credentials;
}

const std::string& Credentials::Token(TimePoint now) {
  if (!file_.empty() && now - read_ >= kReadAgain) Refresh(now);
  return token_;
}

void Credentials::Refresh(TimePoint now) {
  if (file_.empty()) return;
  read_ = now;
  auto token = Read(file_);
  if (token) {
    token_ = std::move(*token);
    unreadable_ = false;
  } else if (!std::exchange(unreadable_, true)) {
    WP_LOG(kWarn, "kubernetes", "token cannot be read again, the last one stays",
           {"error", token.error().message});
  }
}

}  // namespace warmpath::k8s
