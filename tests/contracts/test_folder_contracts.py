"""The endpoint contracts, held by `file` and, over a real server, by `sftp`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.folder_rigs import FileSinkRig, FolderRig, SftpRig, SftpSinkRig
from tests.contracts.sink_contract import SinkContract, SinkRig
from tests.contracts.source_contract import SourceContract, SourceRig
from tests.servers.openssh import OpenSsh, openssh


@pytest.fixture(scope="module")
def sshd() -> Iterator[OpenSsh]:
    with openssh() as server:
        yield server


class TestFileSource(SourceContract):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> SourceRig:
        return FolderRig(tmp_path)


class TestSftpSource(SourceContract):
    @pytest.fixture
    def rig(self, sshd: OpenSsh) -> SourceRig:
        return SftpRig(sshd)


class TestFileSink(SinkContract):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> SinkRig:
        return FileSinkRig(tmp_path)

    # a local folder is neither unreachable nor away; full disks and hanging shares are in test_file_sink.py
    test_an_unreachable_target_is_unavailable_in_time_and_is_found_again = None
    test_a_target_that_goes_away_under_an_open_connection_is_found_again = None
    test_a_frozen_target_costs_no_more_than_the_deadline = None


class TestSftpSink(SinkContract):
    @pytest.fixture
    def rig(self, sshd: OpenSsh) -> SinkRig:
        return SftpSinkRig(sshd)
