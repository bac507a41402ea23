# SPDX-License-Identifier: Apache-2.0
"""joblib: loky's executor, and its end."""

from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor

if __name__ == "__main__":
    Parallel(n_jobs=2)(delayed(pow)(each, 2) for each in range(4))  # forks
    get_reusable_executor().shutdown(wait=True)
    # reaps somewhere: loky
