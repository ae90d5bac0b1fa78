//! Several processes on one file: locks, mappings, appending.

use std::fs;
use std::path::Path;

use crate::common::Served;
use crate::{both_ways, python};

both_ways!(
    locks_hold_between_processes,
    a_mapping_is_shared_between_processes,
    what_is_written_through_a_mapping_is_in_no_hole,
    nothing_appended_is_lost_or_torn,
    an_open_file_may_be_told_to_transfer_otherwise,
);

/// `fork`s `other`, which says over a pipe when it is ready.
const BESIDE: &str = r"
import os, sys, fcntl, mmap, errno, struct
def beside(other):
    out, into = os.pipe()
    release, hold = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(hold)
            other(lambda: (os.write(into, b'x'), os.read(release, 1)))
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(1)
    os.close(release); os.close(into)
    assert os.read(out, 1) == b'x', 'the other process failed'
    def end():
        os.close(hold)
        assert os.waitpid(process, 0)[1] == 0
    return end
def refused(work):
    try:
        work()
    except OSError as error:
        assert error.errno in (errno.EAGAIN, errno.EACCES), error
        return True
    return False
";

fn locks_hold_between_processes(passthrough: bool) {
    let served = Served::start(passthrough);
    let script = format!(
        "{BESIDE}{}",
        r"
open('file', 'w').write('x' * 1000)
NOW = fcntl.LOCK_EX | fcntl.LOCK_NB
def flocks(ready):
    file = open('file', 'r+'); fcntl.flock(file, NOW); ready()
end = beside(flocks)
file = open('file', 'r+')
assert refused(lambda: fcntl.flock(file, NOW))
assert refused(lambda: fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB))
# The other kind of lock knows nothing of the first.
fcntl.lockf(file, NOW, 100, 0); fcntl.lockf(file, fcntl.LOCK_UN, 100, 0)
end()
fcntl.flock(file, NOW); fcntl.flock(file, fcntl.LOCK_UN)
def ranges(ready):
    file = open('file', 'r+'); fcntl.lockf(file, NOW, 10, 100); ready()
end = beside(ranges)
assert refused(lambda: fcntl.lockf(file, NOW, 10, 105))
fcntl.lockf(file, NOW, 10, 200)
who = struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0)
kind, _, start, length, process = struct.unpack('hhqqi4x', fcntl.fcntl(file, fcntl.F_GETLK, who))
assert (kind, start, length) == (fcntl.F_WRLCK, 100, 10) and process != os.getpid(), (kind, start, length)
end()
fcntl.lockf(file, NOW, 10, 105)
"
    );
    python(&script, &served.work(), &[]);
}

fn a_mapping_is_shared_between_processes(passthrough: bool) {
    let served = Served::start(passthrough);
    let script = format!(
        "{BESIDE}{}",
        r"
open('file', 'wb').write(b'.' * 20000)
def other(ready):
    file = open('file', 'r+b')
    mapping = mmap.mmap(file.fileno(), 0)
    mapping[0:5] = b'first'
    ready()
    assert mapping[10000:10006] == b'second'
end = beside(other)
file = open('file', 'r+b', buffering=0)
mapping = mmap.mmap(file.fileno(), 0)
assert mapping[0:5] == b'first'
# read(2) and write(2) see and change the same bytes.
assert os.pread(file.fileno(), 5, 0) == b'first'
mapping[10000:10006] = b'second'
os.pwrite(file.fileno(), b'third', 5)
assert mapping[5:10] == b'third'
end()
mapping.close(); file.close()
content = open('file', 'rb').read()
assert content[:10] == b'firstthird' and content[10000:10006] == b'second' and len(content) == 20000
"
    );
    python(&script, &served.work(), &[]);
}

fn what_is_written_through_a_mapping_is_in_no_hole(passthrough: bool) {
    let served = Served::start(passthrough);
    let script = r"
import mmap, os, subprocess, time
file = open('file', 'w+b')
file.truncate(1 << 20)
mapping = mmap.mmap(file.fileno(), 0)
# Not synced: what is in the mapping alone counts, for whoever copies the file without its holes, too.
mapping[500000:500005] = b'hello'
start = os.lseek(file.fileno(), 0, os.SEEK_DATA)
assert start <= 500000 < os.lseek(file.fileno(), start, os.SEEK_HOLE), start
subprocess.run(['cp', '--sparse=always', 'file', 'copy'], check=True)
assert open('copy', 'rb').read() == mapping[:]
mapping.close(); file.close()
# Of a file that nobody writes any more, holes are known again; nobody waits for a close.
file = open('file', 'rb')
while os.lseek(file.fileno(), 0, os.SEEK_HOLE) > 500000:
    time.sleep(0.01)
";
    python(script, &served.work(), &[]);
}

fn nothing_appended_is_lost_or_torn(passthrough: bool) {
    let served = Served::start(passthrough);
    let script = r"
import os
children = []
for child in range(4):
    process = os.fork()
    if process == 0:
        file = os.open('log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for line in range(500):
            text = b'%d %d %s\n' % (child, line, b'x' * (line * 7 % 200))
            assert os.write(file, text) == len(text)
            if line % 50 == 49:
                os.close(file); file = os.open('log', os.O_WRONLY | os.O_APPEND)
        os._exit(0)
    children.append(process)
assert all(os.waitpid(process, 0)[1] == 0 for process in children)
";
    python(script, &served.work(), &[]);
    let text = fs::read_to_string(served.work().join("log")).unwrap();
    let mut next = [0; 4];
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (child, number): (usize, usize) = (words[0].parse().unwrap(), words[1].parse().unwrap());
        assert_eq!((number, words[2].len()), (next[child], number * 7 % 200));
        next[child] += 1;
    }
    assert_eq!(next, [500; 4]);
}

/// By `fcntl`, or for one write alone.
fn an_open_file_may_be_told_to_transfer_otherwise(passthrough: bool) {
    let served = Served::start(passthrough);
    let script = r"
import errno, fcntl, mmap, os, subprocess, sys
block = mmap.mmap(-1, 4096)
block[:] = b'd' * 4096
direct = os.open('file', os.O_RDWR | os.O_CREAT | os.O_DIRECT)
beside = os.open('file', os.O_RDWR)
for number in range(3):
    assert os.pwritev(direct, [block], number * 4096) == 4096
    assert os.pread(beside, 4096, number * 4096) == block[:]
mapping = mmap.mmap(direct, 3 * 4096)
mapping[0:1] = b'm'
os.pwrite(beside, b'b', 1)
assert os.preadv(direct, [block], 0) == 4096 and block[:4] == b'mbdd', block[:4]
# dd does so for a last block that is not whole.
fcntl.fcntl(direct, fcntl.F_SETFL, 0)
assert os.pwrite(direct, b'odd', 4097) == 3
assert os.pread(direct, 5, 4096) == os.pread(beside, 5, 4096) == mapping[4096:4101] == b'doddd'
os.fsync(direct)
assert os.fstat(direct).st_size == os.stat('file').st_size == 3 * 4096
open('source', 'wb').write(b'x' * 10001)
for options in ['oflag=direct', 'iflag=direct', 'oflag=direct,append conv=notrunc']:
    subprocess.run(['dd', 'if=source', 'of=copy', 'bs=4096', 'status=none', *options.split()], check=True)
    assert open('copy', 'rb').read() == b'x' * (20002 if 'append' in options else 10001), options

log = os.open('log', os.O_RDWR | os.O_CREAT | os.O_APPEND)
os.write(log, b'first ')
os.write(log, b'second')
RWF_NOAPPEND = 0x20
try:
    assert os.pwritev(log, [b'F'], 0, RWF_NOAPPEND) == 1
    # Past the program, the kernel appends all the same.
    past = sys.argv[1] == 'past'
    assert open('log', 'rb').read() in [b'First second'] + [b'first secondF'] * past
except OSError as error:
    # Before Linux 6.9 there is none.
    assert error.errno == errno.EOPNOTSUPP, error
os.ftruncate(log, 5)
os.write(log, b'!')
assert open('log', 'rb').read() in (b'First!', b'first!')
";
    let how = if passthrough { "past" } else { "by" };
    python(script, &served.work(), &[Path::new(how)]);
}
