"""What every store promises, over the real PostgreSQL."""

from functools import partial

import pytest

from tests.integration.store.servers import open_store_on
from tests.unit.store.test_contract import (  # noqa: F401  # run here with the fixture below
    OpenStore,
    test_a_sequence_may_go_on_after_a_gap,
    test_an_asset_without_samples_has_no_history,
    test_an_outbox_never_seen_has_nothing_committed,
    test_outboxes_do_not_disturb_each_other,
    test_records_and_unsequenced_samples_are_accepted_without_waiting,
    test_submitted_batches_are_committed_and_reported,
)


@pytest.fixture
def open_store(database_url: str) -> OpenStore:
    return partial(open_store_on, database_url)
