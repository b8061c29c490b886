// session-id-producer {headerName | cookieName} and agent-identity {additionalSessionHeaders}: the
// session of a request, for session affinity; agent-identity also makes it the fairness id where
// the request has none.
#include <fmt/format.h>

#include "base/units.h"
#include "scheduling/plugins/plugins.h"
#include "scheduling/plugins/request_text.h"
#include "scheduling/plugins/session.h"

namespace warmpath::scheduling {
namespace {

std::string Bounded(std::string_view id) {
  return id.size() > kMaxSessionId ? std::string() : std::string(id);
}

class SessionIdProducer final : public SessionIdentity {
 public:
  explicit SessionIdProducer(const codec::Json& parameters)
      : header_(StringParameter(parameters, "headerName", "")),
        cookie_(StringParameter(parameters, "cookieName", "")) {
    if (header_.empty() && cookie_.empty()) header_ = "x-session-id";
  }
  std::string SessionOf(const Request& request) const override {
    if (!header_.empty()) return Bounded(HeaderOf(request, header_));
    for (const std::string_view part : Split(HeaderOf(request, "cookie"), ';')) {
      const size_t equals = part.find('=');
      if (equals == std::string_view::npos || Trim(part.substr(0, equals)) != cookie_) continue;
      return Bounded(Trim(part.substr(equals + 1)));
    }
    return "";
  }

 private:
  std::string header_;
  const std::string cookie_;
};

class AgentIdentity final : public SessionIdentity, public Producer {
 public:
  explicit AgentIdentity(const codec::Json& parameters) {
    if (const codec::Json* more = Parameter(parameters, "additionalSessionHeaders")) {
      for (const auto& name : more->get_array()) headers_.emplace_back(name.get_string());
    }
    for (const char* name :
         {"x-claude-code-session-id", "x-session-affinity", "session-id", "session_id"}) {
      headers_.emplace_back(name);
    }
  }
  std::string SessionOf(const Request& request) const override {
    for (const std::string& name : headers_) {
      if (std::string id = Bounded(HeaderOf(request, name)); !id.empty()) return id;
    }
    return "";
  }
  void Produce(Request& request) const override {
    if (request.fairness_id.empty()) request.fairness_id = SessionOf(request);
  }

 private:
  std::vector<std::string> headers_;
};

}  // namespace

std::vector<PluginType> SessionIdTypes() {
  PluginType session{"session-id-producer", Role::kProducer, {}, {}, {}};
  session.parameters = {String("headerName"), String("cookieName")};
  session.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    if (!StringParameter(context.parameters, "headerName", "").empty() &&
        !StringParameter(context.parameters, "cookieName", "").empty()) {
      return Fail(Code::kInvalidArgument, "give headerName or cookieName, not both");
    }
    return std::make_unique<SessionIdProducer>(context.parameters);
  };
  PluginType agent{"agent-identity", Role::kProducer, {}, {}, {}};
  agent.parameters = {List("additionalSessionHeaders", String(""))};
  agent.experimental = true;
  agent.note = "serves session affinity; the fairness id in metrics stays the headers'";
  agent.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    return std::make_unique<AgentIdentity>(context.parameters);
  };
  return {session, agent};
}

}  // namespace warmpath::scheduling
