// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package child

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestProcessReportsOutputAndExitCode(t *testing.T) {
	var output strings.Builder
	cmd := exec.Command("sh", "-c", "echo hello; exit 3")
	cmd.Stdout = &output
	p, err := Start(cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Ended()
	var exit *exec.ExitError
	if !errors.As(p.Err(), &exit) || exit.ExitCode() != 3 || output.String() != "hello\n" {
		t.Errorf("the process ended with %v and wrote %q", p.Err(), output.String())
	}
}

func TestStartFailsWithoutProgram(t *testing.T) {
	if _, err := Start(exec.Command("/no/such/program"), syscall.SIGKILL); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the error is %v, want that the program does not exist", err)
	}
}
