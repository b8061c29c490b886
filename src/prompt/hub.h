// The Hugging Face hub as the last source of a tokenizer: downloads the few files one needs into
// the cache that other Hugging Face programs share.
//
// Blocking, for a thread that may take minutes; never at request time. Everything the hub says is
// untrusted: sizes, times, redirects and names are bounded.
#pragma once

#include <filesystem>
#include <memory>
#include <stop_token>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "net/tls.h"
#include "prompt/hub_cache.h"

namespace warmpath::prompt {

struct HubOptions {
  std::string endpoint = "https://huggingface.co";
  std::string token{};            // "" = none; sent to the endpoint alone, never logged
  std::filesystem::path cache{};  // empty: none is named, downloads fail
  bool offline = false;           // downloads fail at once
  size_t max_file_bytes = size_t{256} << 20;
  Duration idle_timeout = std::chrono::seconds(30);  // to the head, and between reads of a body
  Duration file_timeout = std::chrono::minutes(10);
  // Of one file: after 408, 429, 5xx and lost connections, with doubling pauses from first_pause,
  // or as long as Retry-After says up to max_pause.
  int attempts = 3;
  Duration first_pause = std::chrono::milliseconds(500);
  Duration max_pause = std::chrono::seconds(30);
  std::shared_ptr<net::TlsContext> tls{};  // null: the system's authorities
};

// HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, and the first of HubCaches().
HubOptions HubOptionsFromEnvironment();

// Downloads tokenizer.json and those of the other files that exist, all of one commit, and returns
// the snapshot's directory. Until tokenizer.json is stored, last, FindTokenizerDirectory does not
// see the snapshot. kCancelled once `stop` is requested. Messages are for people and say what to
// set.
Result<std::string> DownloadTokenizer(const HubOptions& options, const HubName& name,
                                      std::stop_token stop);

}  // namespace warmpath::prompt
