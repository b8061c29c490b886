#include "app/discovery.h"

#include <fmt/format.h>

#include <set>
#include <utility>

#include "base/log.h"
#include "config/policy_file.h"

namespace warmpath::app {

Discovery::Discovery(DiscoveryOptions options, fleet::Fleet& fleet, routing::Director& director,
                     Registry& metrics)
    : options_(std::move(options)),
      fleet_(fleet),
      director_(director),
      metrics_(metrics),
      from_files_(options_.endpoint_files.size()) {}

Result<std::unique_ptr<Discovery>> Discovery::Create(DiscoveryOptions options, fleet::Fleet& fleet,
                                                     routing::Director& director,
                                                     Registry& metrics) {
  std::unique_ptr<Discovery> discovery(new Discovery(std::move(options), fleet, director, metrics));
  for (size_t i = 0; i < discovery->from_files_.size(); ++i) {
    WP_RETURN_IF_ERROR(discovery->LoadEndpoints(i));
  }
  if (!discovery->options_.policy_file.empty()) WP_RETURN_IF_ERROR(discovery->LoadPolicies());
  discovery->Publish();
  return discovery;
}

Status Discovery::LoadEndpoints(size_t file) {
  WP_TRY(from_files_[file],
         fleet::LoadEndpointsFile(options_.endpoint_files[file].path, options_.defaults));
  return {};
}

Status Discovery::LoadPolicies() {
  WP_TRY(routing::Policies policies, config::LoadPolicyFile(options_.policy_file));
  director_.SetPolicies(std::make_shared<const routing::Policies>(std::move(policies)));
  return {};
}

void Discovery::Publish() {
  std::vector<fleet::EndpointSpec> all = options_.fixed;
  std::set<std::string> names;
  for (const fleet::EndpointSpec& spec : all) names.insert(spec.name);
  for (const auto& specs : from_files_) {
    for (const fleet::EndpointSpec& spec : specs) {
      if (names.insert(spec.name).second) {
        all.push_back(spec);
      } else {
        WP_LOG(kWarn, "discovery", "endpoint named twice; the first is kept", {"name", spec.name});
      }
    }
  }
  fleet_.SetEndpoints(std::move(all));
}

void Discovery::Watch(net::Loop& loop, const std::string& path, std::function<Status()> load) {
  const std::string help = "Reloads of watched files, by result (ok, refused).";
  const Counter ok = metrics_.AddCounter("warmpath_file_reloads_total", help, {{"result", "ok"}});
  const Counter refused =
      metrics_.AddCounter("warmpath_file_reloads_total", help, {{"result", "refused"}});
  watches_.push_back(std::make_unique<net::FileWatch>(
      loop, std::vector<std::string>{path}, [path, ok, refused, load = std::move(load)] {
        if (const Status loaded = load(); loaded) {
          ok.Add();
          WP_LOG(kInfo, "discovery", "file reloaded", {"file", path});
        } else {
          refused.Add();
          WP_LOG(kError, "discovery", "file refused; the last good set stays", {"file", path},
                 {"error", loaded.error().message});
        }
      }));
}

void Discovery::Start(net::Loop& loop) {
  for (size_t i = 0; i < options_.endpoint_files.size(); ++i) {
    if (!options_.endpoint_files[i].watch) continue;
    Watch(loop, options_.endpoint_files[i].path, [this, i]() -> Status {
      WP_RETURN_IF_ERROR(LoadEndpoints(i));
      Publish();
      return {};
    });
  }
  if (!options_.policy_file.empty()) {
    Watch(loop, options_.policy_file, [this] { return LoadPolicies(); });
  }
}

}  // namespace warmpath::app
