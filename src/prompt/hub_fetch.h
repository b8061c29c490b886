// Internal to prompt: one GET at a time from the hub, blocking, ended early by a stop token.
#pragma once

#include <memory>
#include <stop_token>
#include <string>

#include "base/result.h"
#include "net/http.h"
#include "net/http_client.h"
#include "net/loop.h"
#include "prompt/hub.h"
#include "prompt/hub_url.h"

namespace warmpath::prompt {

struct FetchedFile {
  int status = 0;
  net::Headers headers;
  std::string body;
};

// One thread at a time; has a loop of its own.
class HubFetcher {
 public:
  HubFetcher(const HubOptions& options, std::stop_token stop);
  ~HubFetcher();
  HubFetcher(const HubFetcher&) = delete;
  HubFetcher& operator=(const HubFetcher&) = delete;

  // The whole answer. kUnavailable: no connection, or lost. kTimeout. kOutOfBounds: larger than
  // max_file_bytes. kCancelled.
  Result<FetchedFile> Get(const HubAddress& address, const std::string& token);
  // kCancelled when stopped before it passed.
  Status Pause(Duration duration);

 private:
  struct Wait;

  const HubOptions& options_;
  const std::stop_token stop_;
  net::Loop loop_;
  std::unique_ptr<net::HttpClient> client_;  // on the loop
};

}  // namespace warmpath::prompt
