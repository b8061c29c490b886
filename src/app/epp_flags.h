// llm-d's endpoint picker flags, those of the charts of 2025 included: names, defaults, validation,
// and what this program makes of each.
#pragma once

#include <CLI/App.hpp>
#include <string>
#include <vector>

#include "app/commands.h"
#include "config/compatibility.h"

namespace warmpath::app {

// Everything of llm-d's that `serve` does not have too.
void AddPickerFlags(CLI::App& app, EppCommand& command);

// --bypass-responses, of `epp` and of `serve`.
CLI::Option* AddBypassFlag(CLI::App& app, PickerOptions& options);

// --zap-*: the logging flags of Go's programs.
void AddZapFlags(CLI::App& app);

// Every flag of llm-d's with its state in `epp` (the subcommand), for docs/llm-d-compatibility.md.
std::vector<config::CompatibilityRow> PickerFlagRows(const CLI::App& epp);

}  // namespace warmpath::app
