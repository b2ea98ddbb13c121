package doctor

import "golang.org/x/sys/unix"

func room(dir string) (Room, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Room{}, err
	}
	unit := int64(st.Bsize)
	return Room{
		Total: int64(st.Blocks) * unit, Free: int64(st.Bavail) * unit, Reserved: int64(st.Bfree-st.Bavail) * unit,
		Inodes: int64(st.Files), FreeInodes: int64(st.Ffree),
	}, nil
}

// kernelClock asks whether something tells the kernel the time.
func kernelClock() (set, known bool) {
	state, err := unix.Adjtimex(&unix.Timex{})
	return state != unix.TIME_ERROR, err == nil
}

func openFiles() (uint64, error) {
	var l unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	return l.Cur, err
}
