// Requests on the metrics port, answered from memory: routes, methods, JSON shapes. No I/O; any
// thread.
#pragma once

#include <string>
#include <string_view>

#include "admin/admin_server.h"
#include "base/clock.h"
#include "net/http.h"

namespace warmpath::admin {

class Api {
 public:
  explicit Api(AdminDeps deps);

  // Never fails: errors are answers.
  net::HttpResponse Handle(const net::HttpRequest& request) const;

 private:
  net::HttpResponse Ready() const;
  net::HttpResponse Status() const;
  net::HttpResponse Endpoints() const;
  net::HttpResponse Index() const;
  net::HttpResponse Requests(std::string_view query) const;
  net::HttpResponse Request(std::string_view encoded_id) const;
  net::HttpResponse Explain(const net::HttpRequest& request) const;
  net::HttpResponse Tokenize(const net::HttpRequest& request) const;

  const AdminDeps deps_;
  const TimePoint started_;
};

// {"error":{"message","type","param","code"}}, as OpenAI's clients expect it.
std::string ErrorBody(int status, std::string_view message, std::string_view code = {});

}  // namespace warmpath::admin
