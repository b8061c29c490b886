#include "prompt/hub.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "base/log.h"
#include "base/units.h"
#include "prompt/hub_fetch.h"
#include "prompt/hub_url.h"

namespace warmpath::prompt {
namespace {

constexpr std::string_view kTokenizerFile = "tokenizer.json";
// Whatever of these a model has; the template's sources and what names special tokens.
constexpr std::string_view kOptionalFiles[] = {"tokenizer_config.json",
                                               "chat_template.jinja",
                                               "chat_template.json",
                                               "special_tokens_map.json",
                                               "config.json",
                                               "generation_config.json",
                                               "additional_chat_templates/tool_use.jinja"};
constexpr int kMaxRedirects = 5;
constexpr size_t kMaxTokenBytes = 4096;

std::string Env(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(Trim(value));
}

bool IsHex(std::string_view text, size_t size) {
  return text.size() == size && std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return std::isdigit(c) != 0 || (c >= 'a' && c <= 'f');
         });
}

// W/"abc" and "abc" are abc; empty when it cannot name a file.
std::string BareTag(std::string_view tag) {
  if (tag.starts_with("W/")) tag.remove_prefix(2);
  if (tag.size() >= 2 && tag.front() == '"' && tag.back() == '"') {
    tag = tag.substr(1, tag.size() - 2);
  }
  return IsHex(tag, 40) || IsHex(tag, 64) ? std::string(tag) : std::string();
}

bool IsRetriable(int status) {
  return status == 408 || status == 429 || (status >= 500 && status <= 599);
}

// One file as the hub gave it. What it says of the file is on the way to the body: on the redirect
// to the store where the bytes lie, not in the store's own answer.
struct Download {
  int status = 0;
  std::string error_code;   // X-Error-Code
  std::string commit;       // X-Repo-Commit
  std::string tag;          // X-Linked-ETag, else the hub's ETag
  bool linked = false;      // the tag is the SHA-256 of the content
  Duration retry_after{0};  // 0: not said
  std::string from;         // the last address, for people
  bool from_hub = true;     // that was the endpoint itself
  std::string body;
};

class Downloader {
 public:
  Downloader(const HubOptions& options, const HubName& name, std::stop_token stop)
      : options_(options), name_(name), fetcher_(options, std::move(stop)) {}

  // 200 or what the hub answers instead, after the retries.
  Result<Download> Get(std::string_view revision, std::string_view file) {
    Duration pause = options_.first_pause;
    for (int attempt = 1;; ++attempt) {
      auto download = GetOnce(revision, file);
      const bool again = download ? IsRetriable(download->status)
                                  : download.error().code == Code::kUnavailable ||
                                        download.error().code == Code::kTimeout;
      if (!again || attempt >= options_.attempts) return download;
      Duration wait = pause;
      if (download && download->retry_after > wait) wait = download->retry_after;
      WP_RETURN_IF_ERROR(fetcher_.Pause(std::min(wait, options_.max_pause)));
      pause *= 2;
    }
  }

 private:
  Result<Download> GetOnce(std::string_view revision, std::string_view file) {
    WP_TRY(HubAddress at, FileAddress(options_.endpoint, name_, revision, file));
    const net::Url endpoint = at.url;
    Download download;
    for (int hops = 0;; ++hops) {
      const bool own = SameOrigin(at.url, endpoint);
      WP_TRY(FetchedFile answer, fetcher_.Get(at, own ? options_.token : std::string()));
      Note(answer, download);
      download.from = at.ToString();
      download.from_hub = own;
      if (answer.status < 300 || answer.status > 399 || answer.status == 304) {
        download.status = answer.status;
        download.body = std::move(answer.body);
        return download;
      }
      if (hops == kMaxRedirects) {
        return Fail(Code::kInternal, fmt::format("more than {} redirects, the last from {}",
                                                 kMaxRedirects, download.from));
      }
      const auto location = answer.headers.Get("Location");
      WP_TRY(at, RedirectAddress(at, location.value_or("")));
    }
  }

  static void Note(const FetchedFile& answer, Download& download) {
    const auto header = [&](std::string_view key) {
      return std::string(answer.headers.Get(key).value_or(""));
    };
    const std::string commit = header("X-Repo-Commit");
    if (download.commit.empty() && IsHex(commit, 40)) download.commit = commit;
    const std::string linked = BareTag(header("X-Linked-ETag"));
    if (!download.linked && linked.size() == 64) {
      download.tag = linked;
      download.linked = true;
    } else if (download.tag.empty()) {
      download.tag = linked;
    }
    // A store's own ETag is another thing than the hub's.
    if (download.tag.empty() && !commit.empty()) download.tag = BareTag(header("ETag"));
    if (const auto code = answer.headers.Get("X-Error-Code")) {
      download.error_code = code->substr(0, 64);
    }
    if (const auto seconds = ParseInt(header("Retry-After")); seconds && *seconds > 0) {
      download.retry_after = std::chrono::seconds(std::min<int64_t>(*seconds, 3600));
    }
  }

  const HubOptions& options_;
  const HubName& name_;
  HubFetcher fetcher_;
};

tl::unexpected<Error> Refused(const HubOptions& options, const HubName& name, std::string_view file,
                              const Download& download) {
  const std::string model = name.ToString();
  const int status = download.status;
  const bool gated = download.error_code == "GatedRepo";
  if ((status == 401 || status == 403) && (download.from_hub || gated)) {
    std::string what;
    if (options.token.empty()) {
      what = gated ? "is gated: accept its terms there and set HF_TOKEN"
                   : "does not exist there, or is private or gated: then set HF_TOKEN";
    } else {
      what = gated ? "is gated, and HF_TOKEN's account has no access: accept its terms there"
                   : "is not to be had with this HF_TOKEN";
    }
    return Fail(Code::kUnavailable,
                fmt::format("{} answered {}: {} {}", options.endpoint, status, model, what));
  }
  if (status == 404 && download.error_code == "RepoNotFound") {
    return Fail(Code::kNotFound, fmt::format("{} has no model {}", options.endpoint, model));
  }
  if (status == 404 && download.error_code == "RevisionNotFound") {
    return Fail(Code::kNotFound, fmt::format("{} has no revision {} of {}", options.endpoint,
                                             name.revision, name.repo));
  }
  if (status == 404) {
    return Fail(Code::kNotFound, fmt::format("{} has no {} of {}", options.endpoint, file, model));
  }
  return Fail(Code::kUnavailable,
              fmt::format("{} answered {} for {} of {}", download.from, status, file, model));
}

Status CheckContent(std::string_view file, const Download& download) {
  if (!download.linked || Hex(Sha256(download.body)) == download.tag) return {};
  return Fail(Code::kUnavailable,
              fmt::format("{}: what {} sent is not what the hub announced (SHA-256 {})", file,
                          download.from, download.tag));
}

Status CheckOptions(const HubOptions& options) {
  if (options.offline) {
    return Fail(Code::kUnavailable, "HF_HUB_OFFLINE is set: nothing is downloaded");
  }
  if (options.cache.empty()) {
    return Fail(Code::kUnavailable,
                "no place for downloads: set HF_HOME to a directory that can be written");
  }
  const bool printable = std::all_of(options.token.begin(), options.token.end(),
                                     [](char c) { return c > ' ' && c < 0x7f; });
  if (!printable || options.token.size() > kMaxTokenBytes) {
    return Fail(Code::kInvalidArgument, "HF_TOKEN is no token: white space or control characters");
  }
  if (const auto url = net::ParseUrl(options.endpoint); !url) {
    return Fail(url.error(), "HF_ENDPOINT");
  }
  return {};
}

}  // namespace

HubOptions HubOptionsFromEnvironment() {
  HubOptions options;
  if (std::string endpoint = Env("HF_ENDPOINT"); !endpoint.empty()) options.endpoint = endpoint;
  options.token = Env("HF_TOKEN");
  const std::string offline = ToLower(Env("HF_HUB_OFFLINE"));
  options.offline = offline == "1" || offline == "true" || offline == "yes" || offline == "on";
  if (const auto caches = HubCaches(); !caches.empty()) options.cache = caches.front();
  return options;
}

Result<std::string> DownloadTokenizer(const HubOptions& options, const HubName& name,
                                      std::stop_token stop) {
  WP_RETURN_IF_ERROR(CheckOptions(options));
  WP_TRY(const HubCacheWriter cache, HubCacheWriter::Open(options.cache, name));
  Downloader downloader(options, name, std::move(stop));
  const auto get = [&](std::string_view revision, std::string_view file,
                       bool optional) -> Result<std::optional<Download>> {
    auto download = downloader.Get(revision, file);
    if (!download) return Fail(download.error(), fmt::format("{} of {}", file, name.ToString()));
    if (download->status == 404 && optional) return std::nullopt;
    if (download->status != 200) return Refused(options, name, file, *download);
    WP_RETURN_IF_ERROR(CheckContent(file, *download));
    return std::move(*download);
  };
  WP_TRY(const auto tokenizer, get(name.revision, kTokenizerFile, false));
  const std::string& commit = tokenizer->commit;
  if (commit.empty()) {
    return Fail(Code::kUnavailable,
                fmt::format("{} does not say which commit {} is at (no X-Repo-Commit): is "
                            "HF_ENDPOINT a Hugging Face hub?",
                            options.endpoint, name.ToString()));
  }
  const auto store = [&](std::string_view file, const Download& download) {
    const std::string blob = download.tag.empty() ? Hex(Sha256(download.body)) : download.tag;
    return cache.Store(commit, std::string(file), blob, download.body);
  };
  for (const std::string_view file : kOptionalFiles) {
    WP_TRY(const auto download, get(commit, file, true));
    if (download) WP_RETURN_IF_ERROR(store(file, *download));
  }
  WP_RETURN_IF_ERROR(store(kTokenizerFile, *tokenizer));
  WP_RETURN_IF_ERROR(cache.SetRevision(commit));
  return cache.Snapshot(commit);
}

}  // namespace warmpath::prompt
