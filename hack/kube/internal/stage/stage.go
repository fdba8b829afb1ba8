// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func init() {
	if len(os.Args) != 1 || os.Args[0] != program {
		return
	}
	report := os.NewFile(errorFD, "errors")
	err := perform(os.NewFile(specFD, "spec"))
	fmt.Fprint(report, err)
	os.Exit(1)
}

// perform executes the container's program, or returns the error that prevents it.
func perform(from *os.File) error {
	unix.CloseOnExec(specFD)
	unix.CloseOnExec(errorFD)
	var spec Spec
	if err := json.NewDecoder(from).Decode(&spec); err != nil {
		return fmt.Errorf("reading the container's description: %w", err)
	}
	steps := []func(*Spec) error{
		buildRoot, mountKernel, openMounts, enterRoot, writeFiles, placeMounts, nameHost, prepareDirectory, protectRoot, becomeUser,
	}
	for _, step := range steps {
		if err := step(&spec); err != nil {
			return err
		}
	}
	return become(&spec)
}

// inside returns the path of a file in the container while its root is being built.
func (s *Spec) inside(name string) string { return filepath.Join(s.Root, path.Clean("/"+name)) }

func buildRoot(s *Spec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("separating the container's mounts: %w", err)
	}
	if err := unix.Mount("tmpfs", s.Root, "tmpfs", unix.MS_NOSUID, "mode=0755"); err != nil {
		return fmt.Errorf("mounting the container's root: %w", err)
	}
	unix.Umask(0)
	for name, mode := range map[string]os.FileMode{
		"/dev/pts": 0o755, "/dev/shm": 0o777 | os.ModeSticky, "/etc": 0o755, "/home/nonroot": 0o777, "/proc": 0o755,
		"/root": 0o700, "/run": 0o755, "/sys": 0o755, "/tmp": 0o777 | os.ModeSticky, "/usr/local/bin": 0o755, "/var/tmp": 0o777 | os.ModeSticky,
	} {
		if err := os.MkdirAll(s.inside(name), 0o755); err != nil {
			return fmt.Errorf("creating %s: %w", name, err)
		}
		if err := os.Chmod(s.inside(name), mode); err != nil {
			return fmt.Errorf("creating %s: %w", name, err)
		}
	}
	unix.Umask(0o022)
	return nil
}

// openMounts clones the mounts while the machine's file systems are still accessible.
func openMounts(s *Spec) error {
	for i := range s.Mounts {
		if err := s.Mounts[i].open(); err != nil {
			return fmt.Errorf("opening the mount of %s: %w", s.Mounts[i].Source, err)
		}
	}
	return nil
}

// open sets m.tree to a mount of the source that is not attached yet.
func (m *Mount) open() error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return err
	}
	m.tree = tree
	if m.ReadOnly {
		// This adds a flag and keeps the others, which a remount in a user
		// namespace would have to repeat.
		return setReadOnly(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	}
	return nil
}

// writeFiles runs inside the root, so that links cannot point outside of it; the same
// applies to placeMounts.
func writeFiles(s *Spec) error {
	for name, content := range s.Files {
		if err := makeParent(name); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	for name, target := range s.Links {
		if err := makeParent(name); err != nil {
			return err
		}
		if err := os.Symlink(target, name); err != nil {
			return fmt.Errorf("linking %s: %w", name, err)
		}
	}
	return nil
}

func placeMounts(s *Spec) error {
	for _, m := range s.Mounts {
		if err := m.place(); err != nil {
			return fmt.Errorf("mounting %s on %s: %w", m.Source, m.Target, err)
		}
	}
	return nil
}

// place attaches the open mount to its target.
func (m *Mount) place() error {
	var stat unix.Stat_t
	if err := unix.Fstat(m.tree, &stat); err != nil {
		return err
	}
	if err := makeMountPoint(m.Target, stat.Mode&unix.S_IFMT == unix.S_IFDIR); err != nil {
		return err
	}
	const flags = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_SYMLINKS
	if err := unix.MoveMount(m.tree, "", unix.AT_FDCWD, m.Target, flags); err != nil {
		return err
	}
	return unix.Close(m.tree)
}

func makeMountPoint(target string, directory bool) error {
	if directory {
		return os.MkdirAll(target, 0o755)
	}
	if err := makeParent(target); err != nil {
		return err
	}
	file, err := os.OpenFile(target, os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}

func makeParent(name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("creating the directory of a file: %w", err)
	}
	return nil
}

func setReadOnly(at int, path string, flags uint) error {
	return unix.MountSetattr(at, path, flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

// mountKernel mounts the file systems of the kernel: processes, devices and terminals.
func mountKernel(s *Spec) error {
	const flags = unix.MS_NOSUID | unix.MS_NOEXEC
	if err := unix.Mount("proc", s.inside("/proc"), "proc", flags|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := unix.Mount("devpts", s.inside("/dev/pts"), "devpts", flags, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return fmt.Errorf("mounting /dev/pts: %w", err)
	}
	// Devices cannot be created in a user namespace, so those of the machine are mounted.
	for _, device := range []string{"full", "null", "random", "tty", "urandom", "zero"} {
		target := s.inside("/dev/" + device)
		if err := makeMountPoint(target, false); err != nil {
			return fmt.Errorf("adding the device %s: %w", device, err)
		}
		if err := unix.Mount("/dev/"+device, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("adding the device %s: %w", device, err)
		}
	}
	return nil
}

// enterRoot makes the root the only file system of this mount namespace, so that
// processes that join the namespace later use it as well.
func enterRoot(s *Spec) error {
	if err := unix.Chdir(s.Root); err != nil {
		return fmt.Errorf("entering the container's root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivoting to the container's root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmounting the machine's file systems: %w", err)
	}
	return unix.Chdir("/")
}

func nameHost(s *Spec) error {
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	return nil
}

func prepareDirectory(s *Spec) error {
	if s.Directory == "" {
		s.Directory = "/"
	}
	if err := os.MkdirAll(s.Directory, 0o755); err != nil {
		return fmt.Errorf("creating the working directory: %w", err)
	}
	return nil
}

func protectRoot(s *Spec) error {
	if !s.ReadOnlyRoot {
		return nil
	}
	if err := setReadOnly(unix.AT_FDCWD, "/", 0); err != nil {
		return fmt.Errorf("making the root read-only: %w", err)
	}
	return nil
}

func becomeUser(s *Spec) error {
	if s.User != nil {
		// Programs that reopen /dev/stdout must own it.
		for _, stream := range []int{unix.Stdout, unix.Stderr} {
			if err := unix.Fchown(stream, s.User.UID, s.User.GID); err != nil {
				return fmt.Errorf("changing the owner of the output: %w", err)
			}
		}
		if err := syscall.Setgroups(s.User.Groups); err != nil {
			return fmt.Errorf("setting groups: %w", err)
		}
		if err := syscall.Setgid(s.User.GID); err != nil {
			return fmt.Errorf("setting the group: %w", err)
		}
		if err := syscall.Setuid(s.User.UID); err != nil {
			return fmt.Errorf("setting the user: %w", err)
		}
	}
	if s.KeepRights {
		return nil
	}
	return GiveUpRights()
}

// GiveUpRights ensures that a program executed by the calling thread has no privileges
// beyond those of its user ID.
func GiveUpRights() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("dropping capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("dropping privileges: %w", err)
	}
	return nil
}

// become replaces this process with the program. It returns only on failure.
func become(s *Spec) error {
	if len(s.Args) == 0 {
		return errors.New("the container has no program")
	}
	if err := unix.Chdir(s.Directory); err != nil {
		return fmt.Errorf("entering the working directory %s: %w", s.Directory, err)
	}
	executable, err := Find(s.Args[0], s.Env)
	if err != nil {
		return err
	}
	if err := unix.Exec(executable, s.Args, s.Env); err != nil {
		return fmt.Errorf("executing %s: %w", executable, err)
	}
	return nil
}

// Find looks up an executable by its name in an environment, in the file system of the
// calling thread.
func Find(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, executable(name)
	}
	for _, entry := range env {
		directories, ok := strings.CutPrefix(entry, "PATH=")
		if !ok {
			continue
		}
		for _, directory := range filepath.SplitList(directories) {
			if found := filepath.Join(directory, name); executable(found) == nil {
				return found, nil
			}
		}
	}
	return "", fmt.Errorf("exec: %q: executable file not found in $PATH", name)
}

func executable(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("exec: %q: permission denied", name)
	}
	return nil
}
