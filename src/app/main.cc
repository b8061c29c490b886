#include "app/cli.h"

int main(int argc, char** argv) {
  return warmpath::app::RunCli(argc, argv);
}
