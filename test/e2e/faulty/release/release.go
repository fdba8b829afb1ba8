// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package release puts two executables into one, because an image of the local
// cluster is one executable. The second is appended to the first, and its length
// to that.
package release

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const lengthSize = 8

// Pack writes an executable that is the first program and carries the second.
func Pack(path, first, second string) error {
	outer, err := os.ReadFile(first)
	if err != nil {
		return fmt.Errorf("packing a release: %w", err)
	}
	inner, err := os.ReadFile(second)
	if err != nil {
		return fmt.Errorf("packing a release: %w", err)
	}
	packed := binary.BigEndian.AppendUint64(append(outer, inner...), uint64(len(inner)))
	if err := os.WriteFile(path, packed, 0o755); err != nil {
		return fmt.Errorf("packing a release: %w", err)
	}
	return nil
}

// Unpack returns the program that this process carries. It is in memory: a release
// may have nowhere to write to. A child can be started from Path until it is closed.
func Unpack() (*os.File, error) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("unpacking a release: %w", err)
	}
	defer func() { _ = self.Close() }()
	end, err := self.Seek(-lengthSize, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("unpacking a release: %w", err)
	}
	var length [lengthSize]byte
	if _, err := io.ReadFull(self, length[:]); err != nil {
		return nil, fmt.Errorf("unpacking a release: %w", err)
	}
	size := int64(binary.BigEndian.Uint64(length[:]))
	fd, err := unix.MemfdCreate("flag-service", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("unpacking a release: %w", err)
	}
	program := os.NewFile(uintptr(fd), "flag-service")
	if _, err := io.Copy(program, io.NewSectionReader(self, end-size, size)); err != nil {
		return nil, fmt.Errorf("unpacking a release: %w", err)
	}
	return program, nil
}

// Path is where a process finds a program that it has open.
func Path(program *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), program.Fd()) }
