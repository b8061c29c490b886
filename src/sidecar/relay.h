// One request on its way through the sidecar to the engine and back. Confined to the loop of its
// exchange; kept alive by the callbacks it waits for.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>

#include "net/address.h"
#include "net/http_client.h"
#include "net/http_server.h"

namespace warmpath::sidecar {

class Relay : public std::enable_shared_from_this<Relay> {
 public:
  // `client` belongs to the exchange's loop and outlives the call.
  Relay(std::shared_ptr<net::HttpExchange> exchange, net::Url engine,
        std::shared_ptr<std::atomic<size_t>> in_flight);
  ~Relay();
  void Start(net::HttpClient& client, const net::CallOptions& options);

 private:
  void SendContent(std::string_view bytes);
  void OnHead(net::HttpResponseHead head);
  void OnData(std::string_view bytes);
  void OnEnd();
  void OnError(net::CallFailure failure, const Error& error);
  void OnClientGone();
  void Done();

  const std::shared_ptr<net::HttpExchange> exchange_;
  const net::Url engine_;
  const std::shared_ptr<std::atomic<size_t>> in_flight_;
  std::unique_ptr<net::HttpCall> call_;
  bool answering_ = false;  // a byte of an answer may have reached the client
  bool answer_paused_ = false;
  bool content_paused_ = false;
  bool done_ = false;
};

}  // namespace warmpath::sidecar
