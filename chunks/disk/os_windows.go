package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"golang.org/x/sys/windows"
)

// SyncDir has nothing to do: NTFS journals its directories, and has no call
// to wait for that.
func (OS) SyncDir(name string) error {
	_, err := OS{}.Stat(name)
	return err
}

// Lock opens name so that nobody else can.
func (OS) Lock(name string) (io.Closer, error) {
	h, err := open(name, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, windows.OPEN_ALWAYS)
	if err == windows.ERROR_SHARING_VIOLATION {
		err = ErrLocked
	}
	if err != nil {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: err}
	}
	return &lockedFile{close: func() error { return windows.CloseHandle(h) }}, nil
}

// Space asks for the volume of name.
func (OS) Space(name string) (Space, error) {
	var free, total uint64
	p, err := windows.UTF16PtrFromString(name)
	if err == nil {
		err = windows.GetDiskFreeSpaceEx(p, &free, &total, nil)
	}
	if err != nil {
		return Space{}, &fs.PathError{Op: "ask for free space of", Path: name, Err: err}
	}
	return Space{TotalBytes: int64(total), FreeBytes: int64(free)}, nil
}

// Ident returns the numbers of volume and file.
func (OS) Ident(name string) (string, error) {
	const share = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	h, err := open(name, 0, share, windows.OPEN_EXISTING)
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer windows.CloseHandle(h) // it was only asked
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &info); err != nil {
		return "", &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return fmt.Sprintf("%d:%d", info.VolumeSerialNumber, uint64(info.FileIndexHigh)<<32|uint64(info.FileIndexLow)), nil
}

// open opens a file or, thanks to the backup flag, a directory.
func open(name string, access, share, disposition uint32) (windows.Handle, error) {
	p, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return 0, err
	}
	return windows.CreateFile(p, access, share, nil, disposition, windows.FILE_FLAG_BACKUP_SEMANTICS, 0)
}

// diskFull makes what Windows says of a full disk match syscall.ENOSPC.
func diskFull(err error) error {
	if errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) {
		return fmt.Errorf("%w (%w)", err, syscall.ENOSPC)
	}
	return err
}
